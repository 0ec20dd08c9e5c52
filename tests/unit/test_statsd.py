"""What StatsD and Datadog's agent are sent, and how the setting for it may be written."""

import pytest

from services import statsd
from services.metrics import FAMILIES
from services.statsd import PACKET_BYTES, StatsD, dotted, number, packed, tagged
from utils import settings

HOSTILE = "a|b,c#d\ne:1|c"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("datadog", ("datadog", "127.0.0.1", 8125)),
        ("statsd", ("statsd", "127.0.0.1", 8125)),
        ("Datadog://agent.local:9125", ("datadog", "agent.local", 9125)),
        ("statsd 10.0.0.7:8126", ("statsd", "10.0.0.7", 8126)),
        ("statsd://[::1]:9", ("statsd", "::1", 9)),
        ("metrics.local:8125", ("statsd", "metrics.local", 8125)),
        ("statsd:8125", ("statsd", "statsd", 8125)),  # a host of that name, as in compose
        (None, None),
    ],
)
def test_the_setting_may_be_written_in_several_ways(given, found):
    assert settings.statistics(given) == found


@pytest.mark.parametrize("given", ["prometheus", "http://h:1", "h:port", "datadog://h:123456", "a b:1"])
def test_another_provider_is_a_mistake(given):
    with pytest.raises(ValueError, match="must read"):
        settings.statistics(given)


def test_names_cannot_forge_lines():
    family = FAMILIES["tokens_used_total"]
    assert tagged(family, (HOSTILE,), 2) == "tollhouse.tokens_used_total:2|c|#model:a_b_c_d_e:1_c"
    assert dotted(family, (HOSTILE,), 2) == "tollhouse.tokens_used_total.a_b_c_d_e_1_c:2|c"


def test_a_label_without_a_value():
    family, labels = FAMILIES["gen_ai_client_operation_duration_seconds"], ("chat", "openai", "m", "")
    assert tagged(family, labels, 0.25).endswith(":0.25|h|#gen_ai_operation_name:chat,gen_ai_provider_name:openai,"
                                                 "gen_ai_request_model:m")  # fmt: skip
    assert dotted(family, labels, 0.25) == "tollhouse.gen_ai_client_operation_duration_ms.chat.openai.m.none:250|ms"
    assert dotted(FAMILIES["messages_sent_total"], (), 1) == "tollhouse.messages_sent_total:1|c"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (100.0, "100"), (0.1 + 0.2, "0.3"), (2e-9, "0.000000002"), (0, "0"), (1e15, "1" + "0" * 15)],
)
def test_numbers_have_no_exponent(value, text):
    assert number(value) == text


def test_datagrams_are_as_full_as_they_may_be():
    lines = [f"line{number}:{'1' * 100}|c" for number in range(100)]
    packets = list(packed(lines))
    assert "\n".join(packet.decode() for packet in packets).split("\n") == lines
    assert all(PACKET_BYTES - 120 < len(packet) <= PACKET_BYTES for packet in packets[:-1])


def test_what_is_too_much_is_lost_and_said_once(monkeypatch, caplog):
    monkeypatch.setattr(statsd, "MOST_WAITING", 5)
    line = StatsD("statsd", "127.0.0.1", 9)
    for _ in range(3):
        for _ in range(9):
            line.take("messages_sent_total", (), 1)
        line.flush()
    line.close()
    assert caplog.text.count("more was counted than fits") == 1
