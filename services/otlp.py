"""Spans and metrics as messages of OTLP, with the names of OpenTelemetry's conventions for generative AI.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/, read 2026-11-22. No text of a call is in them.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric
from opentelemetry.proto.trace.v1 import trace_pb2

from services.bookings import Settlement
from services.metrics import FAMILIES, OPERATIONS, SYSTEMS, UNKNOWN, Family, Labels, Sums
from services.traces import Span
from services.types import Attempt
from utils import money, native

SCOPE: Final = "tollhouse"
EVERY: Final = 32  # spans or families, after which others have a turn
NO_FAULT: Final = frozenset({"ok", "client_gone", "blocked"})
NAMES: Final = {  # of the families whose name and labels OpenTelemetry has words for, and their unit
    "gen_ai_client_operation_duration_seconds": ("gen_ai.client.operation.duration", "s"),
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
}
LABELS: Final = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}


class Ended(NamedTuple):
    """A call that is over, and where it stands in its trace."""

    settlement: Settlement
    span: Span
    attempts: tuple[Attempt, ...]
    started_s: float  # monotonic, as in the attempts
    ended_s: float


def traces(calls: Iterable[Ended], resource: Mapping[str, Any]) -> bytes:
    """The request that exports these calls: a span for each, and one below it for each attempt."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add()
    spans.resource.attributes.extend(_attributes(resource))
    scoped = spans.scope_spans.add()
    scoped.scope.name = SCOPE
    for number, call in enumerate(calls):
        if number % EVERY == EVERY - 1:
            native.give_way()
        scoped.spans.append(_of_call(call))
        scoped.spans.extend(_of_attempts(call))
    return bytes(request.SerializeToString())


def metrics(sums: Sums, since_ms: int, now_ms: int, resource: Mapping[str, Any]) -> bytes:
    """The request that exports what one process counted since it began."""
    request = ExportMetricsServiceRequest()
    found = request.resource_metrics.add()
    found.resource.attributes.extend(_attributes(resource))
    scoped = found.scope_metrics.add()
    scoped.scope.name = SCOPE
    for name, series in sums.items():
        if series:
            scoped.metrics.append(_of_family(FAMILIES[name], series, since_ms * 1_000_000, now_ms * 1_000_000))
            native.give_way()
    return bytes(request.SerializeToString())


def _of_call(call: Ended) -> Any:
    settlement, span, usage = call.settlement, call.span, call.settlement.usage
    deployment = call.attempts[-1].deployment if call.attempts else None
    operation = OPERATIONS.get(settlement.operation, settlement.operation)
    return trace_pb2.Span(
        trace_id=span.trace_id,
        span_id=span.id,
        parent_span_id=span.parent_id,
        trace_state=span.state,
        name=f"{operation} {settlement.model}",
        kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=_ns(call, call.started_s),
        end_time_unix_nano=_ns(call, call.ended_s),
        status=_status(settlement.outcome),
        attributes=_attributes(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": _system(deployment.upstream.kind) if deployment is not None else None,
                "gen_ai.request.model": settlement.model,
                "gen_ai.response.model": settlement.upstream_model,
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cache_read_input_tokens,
                "gen_ai.usage.cache_creation.input_tokens": usage.cache_creation_input_tokens,
                "http.response.status_code": settlement.status or None,
                "error.type": None if settlement.outcome == "ok" else settlement.outcome,
                "user.id": str(settlement.user_id),
                "tollhouse.key.id": settlement.key_id,
                "tollhouse.request.id": settlement.request_id,
                "tollhouse.stream": settlement.is_stream,
                "tollhouse.first_byte_ms": settlement.first_byte_ms,
                "tollhouse.cost_usd": settlement.cost_nanousd / money.NANO_PER_USD,
            }
        ),
    )


def _of_attempts(call: Ended) -> Iterator[Any]:
    operation = OPERATIONS.get(call.settlement.operation, call.settlement.operation)
    for attempt, child in zip(call.attempts, call.span.children, strict=False):  # one that never began has no span
        upstream = attempt.deployment.upstream
        url = urlsplit(upstream.base_url)
        happened = attempt.happened or call.settlement.outcome
        yield trace_pb2.Span(
            trace_id=call.span.trace_id,
            span_id=child.id,
            parent_span_id=call.span.id,
            name=f"{operation} {attempt.deployment.model}",
            kind=trace_pb2.Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=_ns(call, attempt.began_s),
            end_time_unix_nano=_ns(call, child.ended_s or call.ended_s),
            status=_status(happened),
            attributes=_attributes(
                {
                    "gen_ai.operation.name": operation,
                    "gen_ai.provider.name": _system(upstream.kind),
                    "gen_ai.request.model": attempt.deployment.model,
                    "server.address": url.hostname,
                    "server.port": url.port,
                    "error.type": None if happened == "ok" else happened,
                    "tollhouse.provider": upstream.name,
                }
            ),
        )


def _status(happened: str) -> Any:
    code = trace_pb2.Status.STATUS_CODE_UNSET if happened in NO_FAULT else trace_pb2.Status.STATUS_CODE_ERROR
    return trace_pb2.Status(code=code)


def _ns(call: Ended, moment_s: float) -> int:
    """A moment of the call by the wall clock."""
    return call.settlement.created_ms * 1_000_000 + max(0, round((moment_s - call.started_s) * 1e9))


def _system(kind: str) -> str:
    return SYSTEMS.get(kind, kind or UNKNOWN)


def _of_family(family: Family, series: Mapping[Labels, Any], since_ns: int, now_ns: int) -> Metric:
    name, unit = NAMES.get(family.name, (f"{SCOPE}.{family.name}", "s" if family.name.endswith("_seconds") else "1"))
    metric = Metric(name=name, description=family.about, unit=unit)
    kind = metric.histogram if family.bounds else metric.sum
    kind.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    if not family.bounds:
        kind.is_monotonic = True
    for labels, value in series.items():
        point = kind.data_points.add(start_time_unix_nano=since_ns, time_unix_nano=now_ns)
        named = zip(family.labels, labels, strict=True)
        point.attributes.extend(_attributes({LABELS.get(label, label): text or None for label, text in named}))
        if family.bounds:
            *counts, point.sum = value
            point.bucket_counts.extend(map(int, counts))
            point.explicit_bounds.extend(family.bounds)
            point.count = int(sum(counts))
        else:
            point.as_double = value
    return metric


def _attributes(named: Mapping[str, Any]) -> list[KeyValue]:
    """Those that have a value."""
    return [_attribute(name, value) for name, value in named.items() if value is not None]


@lru_cache(maxsize=4096, typed=True)
def _attribute(name: str, value: str | float | bool) -> KeyValue:
    """One attribute; most calls have the same ones, and making one takes longer than copying it."""
    if isinstance(value, bool):
        return KeyValue(key=name, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=name, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=name, value=AnyValue(double_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=value))
