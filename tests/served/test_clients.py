"""The official SDKs for Python, unmodified, through gunicorn on three wires: the scripts of tests/clients.

`make clients` runs them with the newest versions on every wire, and those of other clients too.
"""

import pytest

from app import create_app
from tests.clients import anthropic_sdk, openai_sdk
from tests.clients.checks import Gateway, run
from tests.clients.wires import WIRES, with_wires
from tests.conftest import TOKEN, make_config
from tests.fakes.vendor_server import Vendors
from tests.helpers import assert_books_agree, rows

SOME = ("responses", "anthropic", "gemini")


@pytest.fixture
def vendors():
    server = Vendors()
    yield server
    server.stop()


@pytest.mark.timeout(300)  # some 150 calls, on a machine that may have much else to do
def test_every_check_passes_and_is_booked_as_the_vendor_said(serve, sqlite_database, tmp_path, vendors):
    app = with_wires(create_app(make_config(tmp_path, DATABASE_URL=sqlite_database)), vendors)
    running, engine = serve(), app.extensions["gateway"].engine
    failed, told = [], []
    for name in SOME:
        gateway = Gateway(running.url, TOKEN, name, WIRES[name].embeds)
        for script in (openai_sdk, anthropic_sdk):
            for outcome in run(gateway, script.CHECKS):
                told += [tuple(usage) for usage in outcome["usages"]]
                if not outcome["ok"]:
                    failed.append(f"{script.__name__} on {name}, {outcome['check']}: {outcome['error']}")
    assert failed == []
    said = [(noted.input_tokens, noted.output_tokens) for noted in vendors.brain.noted]
    assert set(told) <= set(said)
    booked = [(row.input_tokens, row.output_tokens) for row in rows(engine) if row.state == "measured"]
    assert sorted(booked) == sorted(said)
    assert vendors.brain.refused == []
    assert_books_agree(engine)
    app.extensions["gateway"].close()
    engine.dispose()
