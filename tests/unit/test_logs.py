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


def failure(kind):
    """An error as it is when it was raised and caught."""
    with pytest.raises(kind) as caught:
        raise kind(SECRET)
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
