"""Logs: no secret in any form, no forged line, one JSON object a line in production."""

import json
import logging

import pytest
from gunicorn.config import Config

from utils import logs

SECRET = "hunter2-hunter2"
KEY = "sk-th-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def written(capsys):
    """Log something in our form; gives what came out since the last time."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level

    def log(*arguments, as_json=False, level="INFO", **more):
        logs.configure(level, as_json=as_json, secrets=(SECRET, "short"))
        logging.getLogger("tests").log(logging.WARNING, *arguments, **more)
        return capsys.readouterr().err

    yield log
    root.handlers[:] = before
    root.setLevel(level)


def failure(kind, text=SECRET):
    """An error as it is when it was raised and caught."""
    with pytest.raises(kind) as caught:
        raise kind(text)
    return caught.value


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (f"password {SECRET}!", SECRET),
        (f"key {KEY}", "0123456789"),
        ("key sk-proj-abcdefghijklmnop", "efghijklmnop"),
        ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
        ("token eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "eyJzdWIiOiIx"),
    ],
)
def test_secrets_are_blotted_out(written, text, gone, as_json):
    said = written("%s", text, as_json=as_json)
    assert gone not in said
    assert "***" in said


def test_what_is_too_short_to_be_a_secret_stays(written):
    assert "short" in written("a short message")


def test_secrets_in_traces_are_blotted_out(written):
    said = written("failed", exc_info=failure(ValueError))
    assert "Traceback" in said
    assert SECRET not in said


def test_a_line_break_cannot_forge_a_line(written):
    said = written("user %s", "eve\n2026-01-01 INFO fake: all is well\x1b[2J\u2028x")
    assert said.count("\n") == 1
    assert "\\n2026" in said
    assert "\x1b" not in said


def test_json_has_one_object_a_line(written):
    said = written("a\nb", exc_info=failure(KeyError), as_json=True)
    (line,) = said.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("WARNING", "tests", "a\nb")
    assert entry["time"].endswith("+00:00")
    assert "KeyError" in entry["trace"]


def test_what_a_message_names_is_a_member(written):
    said = written(
        "%s settled request_id=%s count=%d share=%.1f%% gone=%s flag=%s who=%s large=%s",
        *("call", "req_1", 3, 0.25, None, True, f"x{SECRET}", 2**70),
        as_json=True,
    )
    entry = json.loads(said)
    assert entry["message"].startswith("call settled request_id=req_1 count=3 share=0.2% gone=None")
    named = {name: entry[name] for name in ("request_id", "count", "share", "gone", "flag", "who", "large")}
    assert named == {
        "request_id": "req_1",
        "count": 3,
        "share": 0.25,
        "gone": None,
        "flag": True,
        "who": "x***",
        "large": str(2**70),
    }


@pytest.mark.parametrize(
    ("template", "arguments"),
    [("level=%s message=%s", ("forged", "forged")), ("a %(user)s", ({"user": "x=%s"},)), ("user=x%%s", ())],
)
def test_nobody_gets_a_member_of_his_own(written, template, arguments):
    entry = json.loads(written(template, *arguments, as_json=True))
    assert (entry.keys(), entry["level"]) == ({"time", "level", "logger", "message"}, "WARNING")


def test_what_no_json_may_have_is_written_nevertheless():
    record = logging.makeLogRecord({"msg": "odd=%s", "args": ("\ud800\n",)})  # not by way of what pytest captures
    form = logs._Formatter(logs.Redactor(()), as_json=True)
    assert json.loads(form.format(record))["odd"] == "\\ud800\n"


def test_a_trace_cannot_forge_a_line(written):
    said = written("failed", exc_info=failure(ValueError, "x\n2026-01-01 INFO fake: all is well\x1b[2J"))
    assert [line for line in said.splitlines()[1:] if not line.startswith("    ")] == []
    assert "\x1b" not in said


def test_addresses_in_the_servers_messages_lose_their_query(written):
    server = logs.GunicornLogger(Config())
    written("first")
    server.error_log.setLevel(logging.INFO)
    server.error("Error handling request %s", "/v1/models?api_key=planted&x=1")
    said = written("last")
    assert "/v1/models?…" in said
    assert "planted" not in said


def test_the_development_server_writes_no_requests_of_its_own(written):
    written("first")
    server = logging.getLogger("werkzeug")
    server.warning('127.0.0.1 - - [x] "%s" %s %s', "GET /?api_key=planted", 200, "-")
    server.warning(" * Running on %s", "http://127.0.0.1:5000")
    said = written("last")
    assert "planted" not in said
    assert "Running on" in said


def test_configuring_twice_does_not_write_twice(written):
    logs.configure("INFO", as_json=False, secrets=())
    assert written("once").count("once") == 1


def test_the_level_is_obeyed(written):
    assert written("nothing", level="ERROR") == ""


def test_the_servers_own_messages_come_in_our_form(written):
    server = logs.GunicornLogger(Config())
    written("first")
    server.error_log.setLevel(logging.INFO)
    server.info("key %s", KEY)
    for logger in (server.error_log, server.access_log):
        assert (logger.handlers, logger.propagate) == ([], True)
    assert written("last").count("gunicorn.error: key sk-th-0***") == 1
