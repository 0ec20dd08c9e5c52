"""Traces and metrics over OTLP from a gateway under gunicorn, as a collector reads them."""

import subprocess
import sys

import pytest
import requests

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.fakes.collector import Collector, of
from tests.fakes.served import ROOT
from tests.helpers import add_model, add_provider, chat, rows

SAID = "a-prompt-that-nobody-may-read"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    running = Collector().start()
    yield running
    running.stop()


@pytest.fixture
def engine(sqlite_database, tmp_path, upstream):
    """Model `fast`, with another one for when it fails."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    add_model(app, add_provider(app, upstream, "second"), "spare", upstream_model="gpt-4o")
    add_model(app, add_provider(app, upstream, "first"), fallbacks=["spare"])
    here = app.extensions["gateway"]
    yield here.engine
    here.close()
    here.engine.dispose()


def call(served, **headers):
    given = {"authorization": f"Bearer {TOKEN}", **headers}
    return requests.post(f"{served.base_url}/chat/completions", json=chat(SAID), headers=given, timeout=20)


def named(spans):
    return {span.name: span for span in spans}


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_a_call_is_a_span_with_one_below_for_each_attempt(serve, engine, collector, upstream, worker_class):
    served = serve(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=a%2Cb, authorization=Basic eHg=",
        OTEL_SERVICE_NAME="llm",
        WEB_CONCURRENCY="2",
        WORKER_CLASS=worker_class,
    )
    upstream.will(status=500)
    answer = call(served, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1")
    assert answer.status_code == 200
    collector.wait(lambda: len(collector.spans()) == 3)
    (row,) = rows(engine)
    spans = named(collector.spans())
    top, failed, good = spans["chat fast"], spans["chat gpt-4o-mini"], spans["chat gpt-4o"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert (top.parent_span_id.hex(), top.trace_state, top.kind) == (PARENT, "vendor=1", 2)
    assert (failed.parent_span_id, good.parent_span_id, good.kind) == (top.span_id, top.span_id, 3)
    assert len({span.span_id for span in spans.values()}) == 3
    found = of(top)
    assert found["gen_ai.usage.input_tokens"] == row.input_tokens
    assert found["gen_ai.usage.output_tokens"] == row.output_tokens
    assert found["tollhouse.request.id"] == answer.headers["x-request-id"]
    assert (found["http.response.status_code"], found["user.id"]) == (200, str(row.user_id))
    assert (found["gen_ai.provider.name"], found["gen_ai.request.model"]) == ("openai", "fast")
    assert "error.type" not in found
    assert (top.status.code, failed.status.code, good.status.code) == (0, 2, 0)
    assert (of(failed)["tollhouse.provider"], of(good)["tollhouse.provider"]) == ("first", "second")
    assert (of(good)["server.address"], of(good)["server.port"]) == ("127.0.0.1", upstream.port)
    assert "error.type" in of(failed)
    times = [getattr(span, f"{edge}_time_unix_nano") for span, edge in (
        (top, "start"), (failed, "start"), (failed, "end"), (good, "start"), (good, "end"))]  # fmt: skip
    assert times == sorted(times)
    assert good.end_time_unix_nano <= top.end_time_unix_nano
    assert not any({"traceparent", "tracestate"} & seen.headers.keys() for seen in upstream.served)
    _path, headers, message = collector.taken[0]
    assert (headers["x-tenant"], headers["authorization"]) == ("a,b", "Basic eHg=")
    assert of(message.resource_spans[0].resource)["service.name"] == "llm"
    assert SAID.encode() not in collector.raw
    assert b"word0" not in collector.raw, "nor the answer"


def test_providers_are_told_if_that_is_wanted_and_callers_decide_what_is_traced(serve, engine, collector, upstream):
    del engine
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, TRACE_UPSTREAM="true", OTEL_TRACES_SAMPLER_ARG="0")
    assert call(served).status_code == 200
    assert call(served, traceparent=f"00-{TRACE}-{PARENT}-00").status_code == 200
    assert call(served, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1").status_code == 200
    told = [seen.headers["traceparent"].split("-") for seen in upstream.served]
    assert [part[3] for part in told] == ["00", "00", "01"]
    assert [part[1] == TRACE for part in told] == [False, True, True]
    assert [seen.headers.get("tracestate") for seen in upstream.served] == [None, None, "vendor=1"]
    collector.wait(lambda: len(collector.spans()) >= 2)
    assert served.stop() == 0
    spans = named(collector.spans())
    assert len(collector.spans()) == 2
    assert spans["chat gpt-4o-mini"].span_id.hex() == told[2][2], "what a provider traces belongs to the attempt"


def test_workers_send_the_rest_when_they_end_and_count_as_the_books_do(serve, engine, collector):
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"{collector.url}/", WEB_CONCURRENCY="2")
    calls = 30
    assert {call(served).status_code for _ in range(calls)} == {200}
    assert served.stop() == 0
    assert sum(span.kind == 2 for span in collector.spans()) == calls
    found = collector.metrics()
    tokens = {"input": 0, "output": 0}
    for metric in found["gen_ai.client.token.usage"].values():
        assert (metric.unit, metric.histogram.aggregation_temporality) == ("{token}", 2)
        for point in metric.histogram.data_points:
            assert (sum(point.bucket_counts), len(point.bucket_counts)) == (point.count, len(point.explicit_bounds) + 1)
            assert of(point)["gen_ai.operation.name"] == "chat"
            tokens[of(point)["gen_ai.token.type"]] += point.sum
    booked = rows(engine)
    assert tokens == {
        "input": sum(row.input_tokens for row in booked),
        "output": sum(row.output_tokens for row in booked),
    }
    counted = [
        point.as_double
        for metric in found["tollhouse.llm_requests_total"].values()
        for point in metric.sum.data_points
        if of(point) == {"provider": "first", "model": "fast", "status": "ok"}
    ]
    assert sum(counted) == calls == len(booked)


def test_a_collector_that_is_away_costs_no_call_and_gets_the_spans_later(serve, engine, collector):
    del engine
    collector.status = 503
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert {call(served).status_code for _ in range(5)} == {200}
    collector.wait(lambda: collector.refused >= 2)
    collector.status = 200
    collector.wait(lambda: len(collector.spans()) == 10)
    assert served.output().count("telemetry was not sent") == 1, "a warning a minute"
    assert "Traceback" not in served.output()


def test_nothing_is_loaded_without_the_setting(tmp_path):
    code = (
        "import sys; from app import create_app; from tests.conftest import make_config; import pathlib;"
        f"create_app(make_config(pathlib.Path({str(tmp_path)!r})));"
        "print([name for name in sys.modules if name.startswith(("
        "'opentelemetry.proto', 'google.', 'services.telemetry', 'services.otlp', 'services.statsd'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
