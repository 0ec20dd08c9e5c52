"""What holds for every command: lists speak JSON, no secret is an argument, long work shows where it is."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from flask import Flask

from config import ROOT
from routes import cli_docs
from tests.conftest import SECRETS
from tests.start.conftest import bare
from utils.progress import measured, told

LISTS = ("list", "show", "identities", "usage")
SECRET = re.compile(r"pass|secret|token$|credential|api.?key", re.IGNORECASE)
BAR = re.compile(r"\[#+\]\s+100%")


@pytest.fixture
def commands(lite: Flask) -> dict[str, click.Command]:
    group = lite.cli
    return dict(pair for name in group.commands for pair in cli_docs.leaves(group.commands[name]) if name != "db")


def test_every_list_speaks_json(commands, lite):
    lists = {words: one for words, one in commands.items() if words.split()[-1] in LISTS}
    assert len(lists) >= 12
    assert [words for words, one in lists.items() if not any("--json" in param.opts for param in one.params)] == []
    run = lite.test_cli_runner().invoke
    for words, one in lists.items():
        if not any(param.required for param in one.params):
            done = run(args=[*words.split(), "--json"])
            assert (words, done.exit_code) == (words, 0)
            assert isinstance(json.loads(done.stdout), list | dict), words


def test_no_secret_is_an_argument(commands):
    takes = [param for one in commands.values() for param in one.params if not getattr(param, "is_flag", False)]
    assert [param.name for param in takes if SECRET.search(param.name or "")] == []


def test_the_page_has_every_command_and_option(lite, commands):
    text = cli_docs.page(lite.cli)
    assert (ROOT / cli_docs.PAGE).read_text(encoding="utf-8") == text, "run `make docs`"
    for words, one in commands.items():
        assert f"`flask {words}" in text
        options = [name for param in one.params if isinstance(param, click.Option) for name in param.opts]
        assert [name for name in options if name not in text] == []


def test_a_page_that_differs_is_named_and_written(tmp_path):
    (tmp_path / "docs").mkdir()
    assert cli_docs.write(tmp_path, "text", check_only=True) == [cli_docs.PAGE]
    assert cli_docs.write(tmp_path, "text", check_only=False) == [cli_docs.PAGE]
    assert cli_docs.write(tmp_path, "text", check_only=True) == []


def test_work_tells_how_far_it_is():
    heard: list[tuple[int, int]] = []
    assert list(told("ab", 2, lambda *far: heard.append(far))) == ["a", "b"]
    assert list(measured([b"abc", b"d"], lambda *far: heard.append(far), 4)) == [b"abc", b"d"]
    assert heard == [(0, 2), (1, 2), (2, 2), (0, 4), (3, 4), (4, 4)]


def on_terminal(folder: Path, *arguments: str) -> tuple[str, str]:
    """What a command prints, and what a terminal shows beside it."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "flask", "--app", "app", *arguments]
    environ = bare(folder, **SECRETS, TERM="xterm")
    done = subprocess.run(words, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the terminal is gone with its last writer
        pass
    os.close(ours)
    return done.stdout.decode(), shown.decode()


def test_long_work_has_a_bar_on_a_terminal_only(flask, tmp_path):
    assert flask("prepare").returncode == 0
    long = [
        ["backup", str(tmp_path / "one.backup")],
        ["restore", str(tmp_path / "one.backup"), "--replace", "--yes"],
        ["retention", "run"],
        ["secrets", "rotate"],
    ]
    for words in long:
        printed, shown = on_terminal(tmp_path, *words)
        assert BAR.search(shown), (words, shown)
        assert "#" not in printed
    quiet = flask("retention", "run")
    assert (quiet.returncode, "%" in quiet.stdout + quiet.stderr) == (0, False)
