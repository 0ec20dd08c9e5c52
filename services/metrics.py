"""What the gateway counts about itself, for Prometheus: exact over all workers of a host, and cheap for a call.

A worker counts in its own memory and writes its sums to a small file every second, and once more when it ends; whoever
is asked adds up the files of all workers of its server, those of workers that died included. A worker that is killed
loses what it counted in its last second, here only: the books are kept elsewhere. Files, and not memory that is shared:
on a disk that is full a write then fails, and with shared memory the worker would.

Names in the first half of FAMILIES are older than OpenTelemetry's for generative AI, which the second half follows.
Labels are names of things that admins make, paths as they are written in routes, and words of ours: never what a
caller sent.
"""

import logging
import os
import shutil
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from services.bookings import Settlement
from services.types import Call
from utils import ids, jsonx, money

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKENS: Final = tuple(float(4**power) for power in range(14))  # as OpenTelemetry advises
MOST_SERIES: Final = 2_000  # of one family in one worker; what is more is counted under `other`
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
SUFFIX: Final = ".json"

Labels = tuple[str, ...]
Buckets = list[float]  # how many values fell into each, those above the last bound, and the sum of all
Sums = dict[str, dict[Labels, Any]]  # by family
Listener = Callable[[str, Labels, float], None]  # a family, and what was counted or observed


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. With bounds it is a histogram, else a counter."""

    name: str
    about: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()


_MODEL: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
FAMILIES: Final = {
    family.name: family
    for family in (
        Family("http_requests_total", "Requests, by the route that answered.", ("method", "route", "status")),
        Family("http_request_duration_seconds", "From a request to the end of its answer.", ("route",), SECONDS),
        Family("errors_total", "Requests that were refused or failed, by the code of their error.", ("code",)),
        Family("tokens_used_total", "Tokens of calls, prompt and completion.", ("model",)),
        Family("tokens_prompt_total", "Tokens that were sent to models.", ("model",)),
        Family("tokens_completion_total", "Tokens that models made.", ("model",)),
        Family("llm_requests_total", "Admitted calls, by how they ended.", ("provider", "model", "status")),
        Family("llm_request_duration_seconds", "How long calls took.", ("provider", "model"), SECONDS),
        Family("llm_streaming_chunks_total", "Pieces of text that were handed on in streams.", ("provider", "model")),
        Family("llm_cost_usd_total", "What calls cost, in US dollars.", ("provider", "model")),
        Family("cache_lookups_total", "Calls of models that are cached: hit, miss or bypass.", ("model", "result")),
        Family("cache_saved_usd_total", "What hits of the cache would have cost, in US dollars.", ("model",)),
        Family("dialogs_created_total", "Dialogs that were begun."),
        Family("messages_sent_total", "Messages that were sent in dialogs."),
        Family("gen_ai_client_operation_duration_seconds", "How long calls took.", (*_MODEL, "error_type"), SECONDS),
        Family("gen_ai_client_token_usage", "Tokens of a call.", (*_MODEL, "gen_ai_token_type"), TOKENS),
        Family("gen_ai_server_time_to_first_token_seconds", "How long the first text took.", _MODEL, SECONDS),
    )
}
OPERATIONS: Final = {"completion": "text_completion", "embedding": "embeddings"}  # as OpenTelemetry calls ours
SYSTEMS: Final = {"bedrock": "aws.bedrock", "azure": "azure.ai.openai", "gemini": "gcp.gemini"}  # likewise


class Metrics:
    """The counts of one worker process, and the way to those of all."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for the files of all servers that share it; the process that makes this is one server."""
        self._folder = folder / str(os.getpid())
        self._file: Path | None = None  # of this process; a name that no other process ever had
        self._guard = threading.Lock()
        self._sums: Sums = {name: {} for name in FAMILIES}
        self._is_new = False  # something was counted since the last write
        self._told: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell this everything that is counted from now on, as it is counted; it must be quick."""
        self._told.append(listener)

    def count(self, name: str, *labels: str, amount: float = 1) -> None:
        """So much more of it."""
        with self._guard:
            self._count(name, labels, amount)
            self._is_new = True

    def looked_up(self, model: str, result: str, saved_nanousd: int = 0) -> None:
        """The cache was asked for a call of this model: hit, which saved so much, miss or bypass."""
        with self._guard:
            self._count("cache_lookups_total", (model, result))
            if saved_nanousd:
                self._count("cache_saved_usd_total", (model,), saved_nanousd / money.NANO_PER_USD)
            self._is_new = True

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered, up to the last byte."""
        with self._guard:
            self._count("http_requests_total", (method, route, str(status)))
            self._observe("http_request_duration_seconds", (route,), seconds)
            self._is_new = True

    def settled(self, call: Call, settlement: Settlement) -> None:
        """A call has ended."""
        provider, model = settlement.provider or UNKNOWN, settlement.model or UNKNOWN
        kind = call.deployment.upstream.kind if call.deployment is not None else ""
        pieces = len(call.pieces) if call.is_stream else 0
        seconds, usage = settlement.duration_ms / 1000, settlement.usage
        operation = OPERATIONS.get(settlement.operation, settlement.operation)
        named = (operation, SYSTEMS.get(kind, kind or UNKNOWN), model)
        with self._guard:
            self._count("llm_requests_total", (provider, model, settlement.outcome))
            self._observe("llm_request_duration_seconds", (provider, model), seconds)
            error = "" if settlement.outcome == "ok" else settlement.outcome
            self._observe("gen_ai_client_operation_duration_seconds", (*named, error), seconds)
            self._count("llm_cost_usd_total", (provider, model), settlement.cost_nanousd / money.NANO_PER_USD)
            self._tokens(named, model, "input", usage.input_tokens)
            self._tokens(named, model, "output", usage.output_tokens)
            if pieces:
                self._count("llm_streaming_chunks_total", (provider, model), pieces)
            if settlement.first_byte_ms is not None:
                self._observe("gen_ai_server_time_to_first_token_seconds", named, settlement.first_byte_ms / 1000)
            self._is_new = True

    def happened(self, event: str, _facts: Mapping[str, Any]) -> None:
        """One of the events of services/events.py."""
        if event == "message_sent":
            self.count("messages_sent_total")

    def flush(self) -> None:
        """Write what was counted where the other workers find it.

        Raises:
            OSError: the disk does not take it; the next flush writes all of it.
        """
        with self._guard:
            if not self._is_new:
                return
            written = jsonx.dumps({name: [[*pair] for pair in found.items()] for name, found in self._sums.items()})
            self._is_new = False
        try:
            if self._file is None:
                self._begin()
            assert self._file is not None  # noqa: S101 - _begin gave it a name
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(written)
            fresh.replace(self._file)
        except OSError:
            self._is_new = True
            raise

    def own(self) -> Sums:
        """What this process alone counted so far."""
        with self._guard:
            return {
                name: {labels: value.copy() if isinstance(value, list) else value for labels, value in found.items()}
                for name, found in self._sums.items()
            }

    def all(self) -> Sums:
        """What all workers of this server counted so far; of the others, up to a second ago."""
        sums: Sums = {name: {} for name in FAMILIES}
        files = set(self._folder.glob(f"*{SUFFIX}")) - {self._file}
        for one in (*map(_read, files), self._sums):
            _add(sums, one)
        return sums

    def text(self, gauges: Iterable[GaugeMetricFamily] = ()) -> bytes:
        """All counts of this server's workers, and these gauges, as Prometheus reads them."""
        with suppress(OSError):
            self.flush()
        families = [_family(FAMILIES[name], found) for name, found in self.all().items() if found]
        return generate_latest(_Collected([*families, *gauges]))

    def _count(self, name: str, labels: Labels, amount: float = 1) -> None:
        found = self._sums[name]
        labels = _place(found, labels)
        found[labels] = found.get(labels, 0) + amount
        for tell in self._told:
            tell(name, labels, amount)

    def _observe(self, name: str, labels: Labels, value: float) -> None:
        found, bounds = self._sums[name], FAMILIES[name].bounds
        labels = _place(found, labels)
        buckets: Buckets | None = found.get(labels)
        if buckets is None:
            buckets = found[labels] = [0.0] * (len(bounds) + 2)
        buckets[bisect_left(bounds, value)] += 1
        buckets[-1] += value
        for tell in self._told:
            tell(name, labels, value)

    def _tokens(self, named: Labels, model: str, kind: str, tokens: int | None) -> None:
        if not tokens:
            return
        self._observe("gen_ai_client_token_usage", (*named, kind), tokens)
        self._count("tokens_prompt_total" if kind == "input" else "tokens_completion_total", (model,), tokens)
        self._count("tokens_used_total", (model,), tokens)

    def _begin(self) -> None:
        """A file of one's own, and none of servers that are gone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._folder / f"{os.getpid()}-{ids.random_base62(8)}{SUFFIX}"
        for other in self._folder.parent.iterdir():
            if other.name.isdigit() and not _is_alive(int(other.name)):
                shutil.rmtree(other, ignore_errors=True)


def _place(found: Mapping[Labels, Any], labels: Labels) -> Labels:
    """The series to count under: one too many is counted with the others."""
    return labels if labels in found or len(found) < MOST_SERIES else (OTHER,) * len(labels)


class _Collected:
    """What `generate_latest` takes for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _read(file: Path) -> Sums:
    """The sums of another worker; none if its file cannot be read."""
    try:
        read = jsonx.loads(file.read_bytes())
        return {name: {tuple(labels): value for labels, value in found} for name, found in read.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        log.warning("the counts of another worker cannot be read file=%s", file.name)
        return {}


def _add(sums: Sums, more: Mapping[str, Mapping[Labels, Any]]) -> None:
    for name in sums.keys() & more.keys():
        found = sums[name]
        for labels, value in list(more[name].items()):
            before = found.get(labels)
            if isinstance(value, list):
                found[labels] = [old + new for old, new in zip(before or [0.0] * len(value), value, strict=True)]
            else:
                found[labels] = (before or 0) + value


def _family(family: Family, found: Mapping[Labels, Any]) -> Metric:
    if not family.bounds:
        counter = CounterMetricFamily(family.name.removesuffix("_total"), family.about, labels=family.labels)
        for labels, value in sorted(found.items()):
            counter.add_metric(labels, value)
        return counter
    histogram = HistogramMetricFamily(family.name, family.about, labels=family.labels)
    for labels, (*counts, total) in sorted(found.items()):
        buckets, so_far = [], 0.0
        for bound, more in zip((*map(str, family.bounds), "+Inf"), counts, strict=True):
            so_far += more
            buckets.append((bound, so_far))
        histogram.add_metric(labels, buckets, total)
    return histogram


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
