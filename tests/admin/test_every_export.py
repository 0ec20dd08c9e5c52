"""Every list of the panel as a file: it opens, has its rows, and tells auditors nothing that was said."""

import csv
import json

import pytest
from flask import Flask

from tests.admin.conftest import Browser, add_user
from tests.admin.pages import LISTS, furnish

MORE = (
    "balances",
    "transactions",
    "dialogs",
    "messages",
    "agents",
    "routes",
    "policies",
    "raises",
    "topups",
    "blocked",
    "alerts",
    "batches",
    "alert-targets",
)
PLANTED = "planted-words"


@pytest.fixture
def furnished(panel_anywhere: Flask) -> Flask:
    furnish(panel_anywhere, PLANTED)
    add_user(panel_anywhere, "looker", role="auditor")
    return panel_anywhere


def test_every_list_is_a_table_and_lines_of_json(furnished: Flask) -> None:
    browser = Browser(furnished, "admin")
    for view in (*LISTS, *MORE):
        table = browser.get(f"/admin/{view}/export.csv")
        assert table.status_code == 200, view
        head, *rows = csv.reader(table.text.splitlines())
        lines = [json.loads(line) for line in browser.get(f"/admin/{view}/export.jsonl").text.splitlines()]
        assert rows, view
        assert all(len(row) == len(head) for row in rows), view
        assert list(lines[0]) == head, view


def test_auditors_get_files_without_what_was_said(furnished: Flask) -> None:
    browser = Browser(furnished, "looker")
    for view in ("dialogs", "messages"):
        for kind in ("csv", "jsonl"):
            answer = browser.get(f"/admin/{view}/export.{kind}")
            assert answer.status_code == 200
            found = [line for line in answer.text.splitlines() if PLANTED in line]
            said = [line for line in found if line.count(PLANTED) > (2 if view == "dialogs" else 1)]
            assert said == [], (view, kind)  # the user's and the model's names are planted too
