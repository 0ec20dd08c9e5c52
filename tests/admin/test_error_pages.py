"""Pages that say that something did not work, and the ways on from there."""

import pytest
from flask import Flask

from tests.admin.conftest import Browser, add_user

LIST, OVERVIEW = "Back to the list", "To the overview"


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/portal/prompts/details/?id=no-such", "/portal/prompts/"),
        ("/admin/policies/edit/?id=no-such", "/admin/policies/"),
        ("/admin/batches/details/?id=no-such", "/admin/batches/"),
        ("/admin/balances/edit/?id=999", "/admin/balances/"),
    ],
)
def test_who_finds_nothing_can_go_back_to_the_list(panel_admin: Browser, path: str, back: str) -> None:
    answer = panel_admin.get(path)
    assert answer.status_code == 404
    assert f'href="{back}">{LIST}' in answer.text
    assert OVERVIEW in answer.text
    assert panel_admin.get(back).status_code == 200


def test_a_form_of_what_was_deleted_meanwhile_has_a_way_back(panel_admin: Browser) -> None:
    answer = panel_admin.post("/portal/prompts/edit/?id=no-such", {"name": "greeting"})
    assert answer.status_code == 404
    assert f'href="/portal/prompts/">{LIST}' in answer.text


def test_nobody_is_sent_to_a_list_that_is_not_theirs(panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    answer = Browser(panel_app, "ana").get("/admin/users/edit/?id=1")
    assert answer.status_code in {403, 404}
    assert LIST not in answer.text


def test_an_address_of_no_page_has_no_list(panel_admin: Browser) -> None:
    answer = panel_admin.get("/admin/no-such-page")
    assert answer.status_code == 404
    assert LIST not in answer.text
