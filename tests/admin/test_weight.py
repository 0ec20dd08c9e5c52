"""What a page costs: bytes on the first load, statements, and files that are compressed, kept and told apart."""

import gzip
from collections import defaultdict
from typing import Any, Final

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from routes import assets
from tests.admin.conftest import Browser, statements
from tests.admin.pages import furnish

MOST_BYTES: Final = 200 * 1024
MOST_STATEMENTS: Final = 12
STYLES: Final = "/static/tollhouse.css"
GZIP: Final = {"accept-encoding": "gzip, br"}


@pytest.mark.timeout(300)
def test_the_first_load_of_every_page_is_light(panel_chromium: Any, panel_served: str, panel_app: Flask) -> None:
    paths = [*dict.fromkeys(furnish(panel_app, "An ordinary name"))]
    context = panel_chromium.new_context(base_url=panel_served)
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    page = context.new_page()
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
    weights: dict[str, float] = defaultdict(float)
    here = [""]
    wire.on(
        "Network.loadingFinished",
        lambda event: weights.update({here[0]: weights[here[0]] + event["encodedDataLength"]}),
    )
    for path in paths:
        here[0] = path
        page.goto(path, wait_until="load")
    context.close()
    assert min(weights[path] for path in paths) > 20 * 1024, "the styles alone have more"
    assert {path: weight for path, weight in weights.items() if weight > MOST_BYTES} == {}


def test_no_page_needs_more_than_a_dozen_statements(panel_app: Flask) -> None:
    browser, found = Browser(panel_app, "admin"), {}
    for path in furnish(panel_app, "An ordinary name"):
        browser.get(path)  # the session's own bookkeeping is done
        with statements(panel_app) as seen:
            browser.get(path)
        found[path] = len(seen)
    assert max(found.values()) > 3, "pages do ask the database"
    assert {path: count for path, count in found.items() if count > MOST_STATEMENTS} == {}


def load(browser: Browser, path: str, **headers: str) -> TestResponse:
    return browser.get(path, headers=headers, buffered=True)  # read to its end, which closes the file


def test_files_go_out_compressed_to_those_who_take_it(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    plain, packed = load(browser, STYLES), load(browser, STYLES, **GZIP)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert packed.content_length == len(packed.data) < len(plain.data) / 3
    assert {answer.headers["vary"].lower() for answer in (plain, packed)} == {"accept-encoding"}
    assert load(browser, STYLES, **GZIP).data == packed.data
    assert "content-encoding" not in load(browser, STYLES, **{"accept-encoding": "gzip;q=0, br"}).headers


def test_an_unchanged_file_is_not_sent_again(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    ways: tuple[dict[str, str], ...] = ({}, GZIP)
    for headers in ways:
        tag = load(browser, STYLES, **headers).headers["etag"]
        again = load(browser, STYLES, **headers, **{"if-none-match": tag})
        assert (again.status_code, again.data) == (304, b"")
    assert load(browser, STYLES, range="bytes=0-9", **GZIP).data == load(browser, STYLES).data[:10]
    small = load(browser, "/static/icon.svg", **GZIP)
    assert "content-encoding" not in small.headers
    assert load(browser, "/static/nothing.css", **GZIP).status_code == 404
    assert load(browser, "/static/..%2fapp.py?v=1", **GZIP).status_code == 404


def test_only_the_address_of_the_file_as_it_is_lasts(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    with panel_app.test_request_context("/admin/"):
        addresses = [
            assets.address("static", "tollhouse.css"),
            assets.address("bootstrap.static", "css/bootstrap.min.css"),
        ]
    for address in addresses:
        assert "immutable" in load(browser, address).headers["cache-control"]
        assert "immutable" not in load(browser, address[:-1] + "~").headers["cache-control"]
        assert "immutable" not in load(browser, address.partition("?")[0]).headers["cache-control"]


def test_a_worker_keeps_a_bounded_amount(panel_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_packed", kept := {})
    monkeypatch.setattr(assets, "MOST", 20_000)
    browser = Browser(panel_app)
    answers = [load(browser, path, **GZIP) for path in ("/bootstrap/static/css/bootstrap.min.css", STYLES)]
    assert all(answer.headers["content-encoding"] == "gzip" for answer in answers)
    assert [path for path, _tag in kept] == [STYLES]


def test_pages_are_not_compressed_since_they_carry_a_token_and_repeat_their_address(panel_admin: Browser) -> None:
    answer = panel_admin.get("/admin/users/?search=a-guess", headers=GZIP)
    assert b"a-guess" in answer.data
    assert b"csrf_token" in answer.data
    assert "content-encoding" not in answer.headers


def test_the_programs_of_the_documentation_are_compressed_too(panel_app: Flask) -> None:
    answer = load(Browser(panel_app), "/docs/assets/swagger.js", **GZIP)
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" not in answer.headers["cache-control"]
