"""Which trace a call belongs to, whatever its caller sends."""

import pytest

import config_checks
from config import ConfigError
from services import telemetry
from services.metrics import Metrics
from services.providers.base import UpstreamRequest
from services.settlement import settlement_of
from services.telemetry import Settings, Telemetry
from services.traces import begun, traced
from services.types import Usage
from tests.calls import attempted, make_call
from tests.conftest import make_config

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"
REQUEST = UpstreamRequest("POST", "/x", (("a", "b"),), b"{}")


@pytest.mark.parametrize(
    ("given", "is_sampled"),
    [(GOOD, True), (f" {GOOD} ", True), (f"00-{TRACE}-{PARENT}-00", False), (f"00-{TRACE}-{PARENT}-03", True),
     (f"cc-{TRACE}-{PARENT}-01-what-comes-later", True)],
)  # fmt: skip
def test_the_trace_of_the_caller_goes_on(given, is_sampled):
    span = begun(given, "a=1,b=2", 0.5, goes_on=True)
    assert (span.trace_id.hex(), span.parent_id.hex(), span.is_sampled) == (TRACE, PARENT, is_sampled)
    assert span.state == "a=1,b=2"
    headers = dict(traced(REQUEST, span).headers)
    assert headers == {
        "a": "b",
        "traceparent": f"00-{TRACE}-{span.children[0].id.hex()}-0{int(is_sampled)}",
        "tracestate": "a=1,b=2",
    }


@pytest.mark.parametrize(
    "given",
    [
        *(None, "", "x", GOOD.upper(), GOOD + "-more", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01"),
        *(f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}-1", f"{GOOD},{GOOD}", f"0\u0660{GOOD[2:]}"),
    ],
)
def test_what_is_no_trace_begins_one(given):
    span, other = begun(given, "a=1", 1.0, goes_on=True), begun(given, None, 0.0, goes_on=True)
    assert TRACE not in {span.trace_id.hex(), other.trace_id.hex()}
    assert (len(span.trace_id), span.parent_id, span.state) == (16, b"", "")
    assert (span.is_sampled, other.is_sampled) == (True, False)
    assert span.trace_id != other.trace_id


@pytest.mark.parametrize("state", ["x" * 513, "a=\n", "a=\x7f", "a=é"])
def test_a_state_that_cannot_be_handed_on_is_left_out(state):
    assert begun(GOOD, state, 1.0, goes_on=True).state == ""


def test_nobody_is_told_unless_that_is_wanted():
    span = begun(GOOD, "a=1", 1.0, goes_on=False)
    assert traced(REQUEST, span).headers == REQUEST.headers
    assert len(span.children) == 1
    assert traced(REQUEST, None) is REQUEST


def test_calls_that_nobody_takes_are_bounded(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(telemetry, "CALLS_AT_ONCE", 1)
    monkeypatch.setattr(telemetry, "MOST_BATCHES", 3)
    line = Telemetry(Settings("http://127.0.0.1:9", "", "x", "1", 1.0, tells_upstream=False), Metrics(tmp_path))
    for number in range(9):
        call = attempted(make_call(id=f"req_{number:032}"))
        line.settled(call, settlement_of(call, lambda _call: Usage(1, 1)))
    line.send_traces()
    assert len(line._batches) == 3
    assert "req_" + f"{8:032}" in line._batches[-1].decode("latin-1")
    assert caplog.text.count("telemetry was not sent") == 1
    line.close()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: not http"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=1,b"}, "OTEL_EXPORTER_OTLP_HEADERS: not name=value"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1.5"}, "OTEL_TRACES_SAMPLER_ARG: "),
        ({"STATS_PROVIDER": "prometheus"}, "STATS_PROVIDER: must read datadog, statsd"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT: "),
    ],
)
def test_mistakes_in_the_settings_are_told(tmp_path, environ, said):
    with pytest.raises(ConfigError) as caught:
        make_config(tmp_path, **environ)
    (problem,) = caught.value.problems
    assert problem.startswith(said)


def test_without_its_package_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(config_checks, "OTLP", "opentelemetry_that_is_not_there.proto")
    with pytest.raises(ConfigError, match=r"requirements-otel\.txt"):
        make_config(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
