"""Loaded by pytest into openai's own tests: gives them our key, and the answers that they take to be stored.

It runs in the Python of those tests, so it imports nothing of ours. What it did goes to a file, one test a line.
"""

import json
import os
import sqlite3
from pathlib import Path

# The answers that their tests name; they are stored anew before each of those tests.
ANSWERS = ("resp_677efb5139a88190b512bc3fef8e535d", "response_id", "previous_response_id", "resp_123")
COPY = """
INSERT OR REPLACE INTO stored_responses (id, user_id, key_id, previous_id, model, created_at, expires_at, sealed)
SELECT :name, user_id, key_id, NULL, model, created_at, expires_at, sealed FROM stored_responses WHERE id = :pattern
"""


def pytest_collection_modifyitems(items):
    """Their conftest holds the key that their fixtures use."""
    from tests import conftest

    assert items
    if key := os.environ.get("CONTRACT_KEY"):
        conftest.api_key = key
    if members := json.loads(os.environ.get("CONTRACT_WITHOUT", "[]")):
        _leave_out(members)


def _leave_out(members):
    """Send every request without these members of its JSON."""
    from openai._base_client import BaseClient

    build = BaseClient._build_request

    def lean(self, options, **more):
        if isinstance(options.json_data, dict):
            options.json_data = {name: value for name, value in options.json_data.items() if name not in members}
        return build(self, options, **more)

    BaseClient._build_request = lean


def pytest_runtest_setup(item):
    """Deleting it in one test must not hide it from the next."""
    if (pattern := os.environ.get("CONTRACT_ANSWER")) and "responses" in item.nodeid:
        with sqlite3.connect(os.environ["CONTRACT_DATABASE"], timeout=30) as connection:
            connection.executemany(COPY, [{"name": name, "pattern": pattern} for name in ANSWERS])
        connection.close()


def pytest_runtest_logreport(report):
    """Each test once: skipped or failed in any of its phases, or passed."""
    if report.when == "call" or report.outcome != "passed":
        said = ""
        if report.outcome == "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            said = str(crash.message if crash else report.longrepr)[:2000]
        with Path(os.environ["CONTRACT_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": report.nodeid, "outcome": report.outcome, "said": said}) + "\n")
