"""The programs of docs/alerts.md that check a signature, with one of ours and with a wrong one."""

import json
import shutil
import subprocess
import time

import pytest

from services import alertpost
from tests.fakes.served import ROOT
from tests.start import pages

CODE, BODY = "alr-1", '{"type":"test","text":"ä"}'.encode()
SECRET, OTHER = "whsec_" + "QUJD" * 8, "whsec_" + "REVG" * 8


def headers(secret: str, moment_s: int) -> dict[str, str]:
    found = alertpost.headers_of(CODE, moment_s, BODY, [secret])
    return {name: found[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}


def shown(kind: str) -> str:
    found = (block.text for block in pages.blocks(ROOT / "docs/alerts.md") if block.kind == kind)
    return next(text for text in found if "whsec_" in text)


def cases() -> list[tuple[dict[str, str], bool]]:
    now_s = int(time.time())
    two = headers(OTHER, now_s)
    two["webhook-signature"] += " " + headers(SECRET, now_s)["webhook-signature"]
    return [
        (headers(SECRET, now_s), True),
        (two, True),
        (headers(OTHER, now_s), False),
        (headers(SECRET, now_s - 301), False),
        (headers(SECRET, now_s) | {"webhook-id": "alr-2"}, False),
    ]


def test_the_python_program_tells_ours():
    made: dict[str, object] = {}
    exec(shown("python"), made)  # the page's own program
    is_ours = made["is_ours"]
    assert callable(is_ours)
    for given, expected in cases():
        assert is_ours(given, BODY, SECRET) is expected, given


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_node_program_tells_ours(tmp_path):
    asked = "process.stdout.write(JSON.stringify(cases.map((one) => isOurs(one, body, secret))));"
    given = [one for one, _expected in cases()]
    names = f"const cases = {json.dumps(given)}, secret = {json.dumps(SECRET)};"
    names += f"const body = Buffer.from({json.dumps(BODY.hex())}, 'hex');"
    program = tmp_path / "check.mjs"
    program.write_text(f"{shown('javascript')}\n{names}\n{asked}\n", encoding="utf-8")
    done = subprocess.run(["node", str(program)], capture_output=True, text=True, check=False, timeout=60)
    assert (json.loads(done.stdout or "null"), done.stderr) == ([expected for _given, expected in cases()], "")
