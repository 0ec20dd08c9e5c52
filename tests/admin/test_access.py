"""Who reaches what: every rule of the panel against strangers, API keys, other roles, and forms from elsewhere."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask_admin import BaseView, expose
from werkzeug.routing import Rule

from models import User
from routes.admin.guard import Panel, SecureView, UnguardedView
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_team,
    add_user,
    rows_of,
    user_of,
)
from tests.admin.pages import VIEWS
from utils.extensions import PAGES

OPEN = {"/admin/login", "/admin/join"}  # without signing in
OWN = {  # for every role
    "/admin/join",
    *("/admin/password", "/admin/preferences", "/admin/logout", "/admin/login", "/admin/login/code", "/admin/account"),
    *(f"/admin/openid/{page}" for page in ("start", "callback", "link", "unlink")),
    *(f"/admin/second-factor{page}" for page in ("", "/begin", "/confirm", "/off")),
    "/admin/signed-out",
}
NOWHERE = "/admin/<path:missing>"


def rules(app: Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PAGES)]


def calls_of(app: Flask) -> Iterator[tuple[str, str]]:
    """Every method and path of the panel."""
    for rule in rules(app):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, rule.rule.replace("<path:missing>", "no/such/page")


def furnish(app: Flask) -> None:
    user = add_user(app, "ana")
    add_key(app, user)
    add_budget(app, "user", user)
    add_limit(app, "team", add_team(app, members=(user,)))
    add_model(app, [add_provider(app)])
    add_calls(app, 3, user_id=user)


def send(browser: Browser, method: str, path: str, **options: Any) -> Any:
    if method == "GET":
        return browser.get(path, query_string={"id": "1"}, **options)
    return browser.post(path, {"id": "1"}, **options)


def test_strangers_are_sent_to_sign_in(panel_app: Flask) -> None:
    furnish(panel_app)
    seen = 0
    for method, path in calls_of(panel_app):
        if path in OPEN:
            continue
        answer = send(Browser(panel_app), method, path)
        assert answer.status_code in (302, 303), (method, path, answer.status_code)
        assert urlsplit(answer.location).path == "/admin/login", (method, path, answer.location)
        seen += 1
    assert seen > 40
    assert user_of(panel_app, "ana") is not None


def test_strangers_without_a_token_reach_nothing_either(panel_app: Flask) -> None:
    for method, path in calls_of(panel_app):
        if method == "POST":
            assert panel_app.test_client().post(path, data={"id": "1"}).status_code == 400, path


def test_other_roles_get_403_everywhere(panel_app: Flask) -> None:
    furnish(panel_app)
    browser = Browser(panel_app, "ana")
    before = [len(rows_of(panel_app, model)) for model in (User,)]
    for method, path in calls_of(panel_app):
        if path in OWN or not path.startswith("/admin/"):
            continue
        expected = {"/admin/no/such/page": 404, "/admin/": 302}.get(path, 403)
        assert send(browser, method, path).status_code == expected, (method, path)
    assert [len(rows_of(panel_app, model)) for model in (User,)] == before


def test_every_form_needs_its_token(panel_app: Flask) -> None:
    furnish(panel_app)
    browser = Browser(panel_app, "admin")
    posts = [path for method, path in calls_of(panel_app) if method == "POST"]
    assert len(posts) > 15
    for path in posts:
        for data in ({"id": "1"}, {"id": "1", "csrf_token": "made-up"}):
            answer = browser.client.post(path, data=data)
            assert answer.status_code == 400, path
            assert "out of date" in answer.text
    assert browser.get("/admin/").status_code == 200


def test_a_token_of_another_session_does_not_do(panel_app: Flask) -> None:
    stranger, admin = Browser(panel_app), Browser(panel_app, "admin")
    answer = admin.client.post("/admin/logout", data={"csrf_token": stranger.token()})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"sec-fetch-site": "cross-site"}, 403, id="another site, says the browser"),
        pytest.param({"sec-fetch-site": "same-site"}, 403, id="a neighbour, says the browser"),
        pytest.param({"origin": "https://evil.test"}, 403, id="another origin"),
        pytest.param({"origin": "null"}, 403, id="an origin without a name"),
        pytest.param({"origin": "http://localhost:8080"}, 403, id="another port"),
        pytest.param({"origin": "https://localhost"}, 403, id="another scheme"),
        pytest.param({"origin": "http://localhost"}, 303, id="our own origin"),
        pytest.param({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, 303, id="our own page"),
        pytest.param({"sec-fetch-site": "none"}, 303, id="typed in"),
        pytest.param({}, 303, id="an old browser"),
    ],
)
def test_forms_from_other_sites_are_refused(panel_app: Flask, headers: dict[str, str], status: int) -> None:
    answer = Browser(panel_app, "admin").post("/admin/preferences", {"theme": "dark"}, headers=headers)
    assert answer.status_code == status


def test_every_answer_carries_the_headers(panel_app: Flask) -> None:
    furnish(panel_app)
    for browser in (Browser(panel_app), Browser(panel_app, "ana"), Browser(panel_app, "admin")):
        for method, path in calls_of(panel_app):
            if path in ("/admin/logout", "/admin/providers/refresh/") or (method == "POST" and "delete" in path):
                continue
            headers = send(browser, method, path).headers
            policy = headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "script-src 'self' 'nonce-" in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"


def test_each_answer_has_a_nonce_of_its_own(panel_admin: Browser) -> None:
    pages = [panel_admin.get("/admin/") for _ in range(2)]
    nonces = [page.headers["content-security-policy"].split("'nonce-")[1].split("'")[0] for page in pages]
    assert nonces[0] != nonces[1]
    assert f'nonce="{nonces[0]}"' in pages[0].text


def test_pages_hold_no_inline_script_style_or_foreign_address(panel_app: Flask) -> None:
    furnish(panel_app)
    browser = Browser(panel_app, "admin")
    for method, path in calls_of(panel_app):
        if method != "GET":
            continue
        page = send(browser, method, path).text
        for forbidden in (" style=", " onclick=", " onload=", "javascript:", "//cdn", "<style", "<script>"):
            assert forbidden not in page, (path, forbidden)


class Open(BaseView):  # type: ignore[misc]  # the package ships no types
    @expose("/")  # type: ignore[untyped-decorator]  # the package ships no types
    def index(self) -> str:
        return "open to anybody"


class Loosened(SecureView):
    @expose("/")  # type: ignore[untyped-decorator]  # the package ships no types
    def index(self) -> str:
        return "open to anybody"

    def is_accessible(self) -> bool:
        return True


@pytest.mark.parametrize("view", [Open, Loosened])
def test_a_view_without_the_guard_is_refused_at_start(panel_app: Flask, view: type[BaseView]) -> None:
    panel = panel_app.extensions["admin"][0]
    assert isinstance(panel, Panel)
    with pytest.raises(UnguardedView, match=view.__name__):
        panel.add_view(view(name="Open", endpoint="open"))


def test_every_rule_belongs_to_a_guarded_view_or_to_signing_in(panel_app: Flask) -> None:
    panel = panel_app.extensions["admin"][0]
    guarded = {view.endpoint for view in panel._views}
    for rule in rules(panel_app):
        assert rule.endpoint.split(".")[0] in guarded | {"signin"}, rule.rule


@pytest.mark.parametrize("number", ["0", "-1", "999999", "abc", "", "9" * 30, "1.5", "1 OR 1=1", "\x00"])
def test_a_number_that_is_no_row_is_not_found(panel_admin: Browser, number: str) -> None:
    for view in ("users", "teams", "keys", "providers", "models", "usage", "audit"):
        assert panel_admin.get(f"/admin/{view}/details/", query_string={"id": number}).status_code == 404
    for path in (
        "budgets/edit",
        "limits/edit",
        "limits/delete",
        "teams/delete",
        "keys/rotate",
        "keys/end",
        "keys/lift",
    ):
        assert panel_admin.get(f"/admin/{path}/", query_string={"id": number}).status_code == 404


def test_arguments_no_database_could_take_do_no_harm(panel_anywhere_admin: Browser) -> None:
    odd = ["\x00", "9" * 40, "-5", "%", "_", "\\", "'", '"', "x" * 5000, "\ud800", "é", "1e9", "[]"]
    names = ("search", "page", "page_size", "sort", "desc", "before", "after", "user", "key", "model", "span", "state")
    more = ("since", "until", "budget", "team", "tag", "owner", "custom_id", "scope", "unit", "period")
    for view in (*VIEWS, "usage", "ledger", "audit"):
        for value in odd:
            query = {name: value.encode("utf-8", "surrogatepass") for name in (*names, *more)}
            answer = panel_anywhere_admin.get(f"/admin/{view}/", query_string=query)
            assert answer.status_code == 200, (view, value)
