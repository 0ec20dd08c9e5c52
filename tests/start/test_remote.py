"""A start with Valkey or Redis: one that answers, one that does not, an address that is none."""

import config as settings
from tests.fakes.ports import free_port

AWAY = "limits are counted in the database: Valkey or Redis does not answer"


def test_the_start_warns_of_a_server_that_does_not_answer_and_goes_on(flask, mute):
    for url in (mute.url, f"redis://:a-secret-word@127.0.0.1:{free_port()}"):
        done = flask("prepare", REDIS_URL=url)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(AWAY) == 1
        assert "a-secret-word" not in done.stdout + done.stderr


def test_the_start_says_nothing_of_one_that_answers(flask, valkey):
    done = flask("prepare", REDIS_URL=valkey.url)
    assert (done.returncode, AWAY in done.stderr) == (0, False)


def test_a_malformed_address_stops_the_start_without_its_password(flask):
    done = flask("prepare", REDIS_URL="redis://:pass/word@localhost:6379")
    assert done.returncode == settings.EXIT_BAD_CONFIG
    assert "REDIS_URL: not an address of Valkey or Redis. Fix: as redis://" in done.stderr
    assert "pass" not in done.stderr.replace(":password@", "").replace("the password", "")
