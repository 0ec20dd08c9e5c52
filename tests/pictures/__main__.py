"""`make pictures TO=FOLDER`: every page of PAGES in every size and colour, as every role that may see it."""

import argparse
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import flask_migrate
from flask import Flask
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from app import create_app
from tests.admin.conftest import Browser
from tests.conftest import PASSWORD, make_config, prepare
from tests.pictures.demo import Demo, fill
from utils.extensions import db

SIZES: Final = {"wide": (1440, 900), "phone": (390, 844)}
COLOURS: Final = ("light", "dark")
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")


class Page(NamedTuple):
    """A page: what its picture is called, its address with places from Demo, and who looks at it."""

    name: str
    path: str
    roles: tuple[str, ...] = ("admin",)
    typed: str = ""  # into the search of the top bar


USERS: Final = {"admin": "admin", "auditor": "rita.audit", "user": "ana.lima"}
PAGES: Final = (
    Page("overview", "/admin/", ("admin", "auditor")),
    Page("users", "/admin/users/", ("admin", "auditor")),
    Page("user", "/admin/users/details/?id={ana}"),
    Page("user-edit", "/admin/users/edit/?id={ana}"),
    Page("user-new", "/admin/users/new/"),
    Page("teams", "/admin/teams/"),
    Page("team", "/admin/teams/details/?id={team}"),
    Page("invitations", "/admin/invites/"),
    Page("keys", "/admin/keys/", ("admin", "auditor")),
    Page("key", "/admin/keys/details/?id={key}"),
    Page("key-new", "/admin/keys/new/"),
    Page("key-revoke", "/admin/keys/revoke/?id={key}"),
    Page("budgets", "/admin/budgets/"),
    Page("limits", "/admin/limits/"),
    Page("providers", "/admin/providers/"),
    Page("provider", "/admin/providers/details/?id={provider}"),
    Page("provider-new", "/admin/providers/new/"),
    Page("models", "/admin/models/"),
    Page("model", "/admin/models/details/?id={model}"),
    Page("model-edit", "/admin/models/edit/?id={model}"),
    Page("usage", "/admin/usage/", ("admin", "auditor")),
    Page("call", "/admin/usage/details/?id={call}"),
    Page("ledger", "/admin/ledger/"),
    Page("blocked", "/admin/blocked/"),
    Page("why-blocked", "/admin/blocked/details/?id=4"),
    Page("blocked-now", "/admin/blocked/now/"),
    Page("balances", "/admin/balances/"),
    Page("transactions", "/admin/transactions/"),
    Page("dialogs", "/admin/dialogs/"),
    Page("agents", "/admin/agents/"),
    Page("routes", "/admin/routes/"),
    Page("policies", "/admin/policies/"),
    Page("policy", "/admin/policies/details/?id=1"),
    Page("policy-edit", "/admin/policies/edit/?id=1"),
    Page("prompts", "/portal/prompts/", ("admin", "user")),
    Page("prompt", "/portal/prompts/details/?id={prompt}&version=2&from=1", ("admin", "user")),
    Page("prompt-version", "/portal/prompts/version/?id={prompt}"),
    Page("prompt-label", "/portal/prompts/label/?id={prompt}&version=2"),
    Page("batches", "/admin/batches/"),
    Page("batch", "/admin/batches/details/?id=2"),
    Page("batch-cancel", "/admin/batches/cancel/?id=2"),
    Page("portal-batches", "/portal/batches/", ("user",)),
    Page("dialog", "/admin/dialogs/details/?id={dialog}"),
    Page("requests", "/admin/raises/"),
    Page("request", "/admin/raises/decide/?id=1"),
    Page("top-up-codes", "/admin/topups/"),
    Page("offers", "/admin/models/offers/?provider={provider}"),
    Page("first-steps", "/admin/steps/"),
    Page("playground", "/playground/"),
    Page("portal", "/portal/", ("user",)),
    Page("portal-calls", "/portal/calls/", ("user",)),
    Page("portal-refused", "/portal/refused/", ("user",)),
    Page("portal-dialogs", "/portal/dialogs/", ("user",)),
    Page("portal-dialog", "/portal/dialogs/details/?id={dialog}", ("user",)),
    Page("portal-team", "/portal/team/", ("user",)),
    Page("portal-keys", "/portal/keys/", ("user",)),
    Page("portal-requests", "/portal/requests/", ("user",)),
    Page("portal-top-up", "/portal/top-up/", ("user",)),
    Page("portal-profile", "/portal/profile/", ("user",)),
    Page("portal-key", "/portal/keys/details/?id={key}", ("user",)),
    Page("portal-key-new", "/portal/keys/new/", ("user",)),
    Page("portal-request-new", "/portal/requests/new/", ("user",)),
    Page("portal-member", "/portal/team/member/?id={ana}", ("user",)),
    Page("portal-team-keys", "/portal/team/keys/", ("user",)),
    Page("portal-team-budgets", "/portal/team/budgets/", ("user",)),
    Page("portal-team-requests", "/portal/team/requests/", ("user",)),
    *(
        Page(f"{name}-new", f"/admin/{path}/new/")
        for name, path in {
            "team": "teams",
            "invitation": "invites",
            "budget": "budgets",
            "limit": "limits",
            "balance": "balances",
            "agent": "agents",
            "route": "routes",
            "model": "models",
            "value": "configs",
            "codes": "topups",
        }.items()
    ),
    *(
        Page(f"{name}-edit", f"/admin/{path}/edit/?id={{{place}}}")
        for name, path, place in (
            ("team", "teams", "team"),
            ("key", "keys", "key"),
            ("provider", "providers", "provider"),
        )
    ),
    Page("route-edit", "/admin/routes/edit/?id=1"),
    Page("budget-edit", "/admin/budgets/edit/?id=2"),
    Page("key-rotate", "/admin/keys/rotate/?id={key}"),
    Page("user-password", "/admin/users/password/?id={ana}"),
    Page("join", "/admin/join", ("nobody",)),
    Page("audit", "/admin/audit/"),
    Page("configuration", "/admin/configs/"),
    Page("search", "/admin/search/?q=an"),
    Page("suggestions", "/admin/", typed="pro"),
    Page("account", "/admin/account"),
    Page("nothing-found", "/admin/users/?search=nobody-of-this-name"),
    Page("not-there", "/admin/nothing"),
    Page("sign-in", "/admin/login", ("nobody",)),
)


def addresses(made: Demo) -> dict[str, int | str]:
    """What stands for the places in the addresses of PAGES."""
    ana = made.users["ana.lima"]
    return {
        "ana": ana,
        "team": made.teams["research"],
        "key": made.keys[ana][0],
        "provider": made.providers["openai"],
        "model": made.models["gpt-5-mini"],
        "call": made.call,
        "dialog": made.dialog,
        "prompt": made.prompt,
    }


@contextmanager
def served() -> Iterator[tuple[Flask, str, Demo]]:
    """The demonstration gateway on a port of its own."""
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-pictures-"))
    settings = {"DATABASE_URL": f"sqlite:///{folder}/tollhouse.db", "DEFAULT_ADMIN_PASSWORD": PASSWORD}
    app = create_app(make_config(folder, **settings))
    with app.app_context():
        flask_migrate.upgrade()
        prepare(app)
    made = fill(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield app, f"http://127.0.0.1:{server.server_port}", made
    finally:
        server.shutdown()
        app.extensions["gateway"].close()
        with app.app_context():
            db.engine.dispose()
        shutil.rmtree(folder)


def take(chromium: Chromium, app: Flask, address: str, made: Demo, wanted: argparse.Namespace) -> int:
    """All pictures; how many."""
    places, count = addresses(made), 0
    for role in (*USERS, "nobody"):
        pages = [page for page in PAGES if role in page.roles and (not wanted.only or page.name in wanted.only)]
        for size, (width, height) in SIZES.items() if pages else ():
            for colour in COLOURS:
                context = chromium.new_context(
                    base_url=address, viewport={"width": width, "height": height}, color_scheme=colour, locale="en-GB"
                )
                if role in USERS:
                    context.add_cookies([_cookie(app, USERS[role], address)])
                opened = context.new_page()
                for page in pages:
                    opened.goto(page.path.format(**places), wait_until="load")
                    if page.typed and size == "wide":
                        opened.get_by_role("combobox").press_sequentially(page.typed)
                        opened.locator("[role=option]").first.wait_for()
                    suffix = "" if role in ("admin", "nobody") else f"-{role}"
                    target = wanted.to / f"{page.name}{suffix}-{size}-{colour}.png"
                    opened.screenshot(path=target, full_page=wanted.whole)
                    count += 1
                context.close()
    return count


def _cookie(app: Flask, username: str, address: str) -> Any:
    browser = Browser(app, username)
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    return {"name": "admin_session", "value": cookie.value, "url": address}


def main() -> None:
    """See the docstring of the module."""
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--only", nargs="*", default=[], help="names of pages; without, all of them")
    parser.add_argument("--whole", action="store_true", help="the whole page, not what fits the window")
    wanted = parser.parse_args()
    wanted.to.mkdir(parents=True, exist_ok=True)
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        parser.error("no chromium is installed (Debian: apt-get install chromium)")
    with served() as (app, address, made), sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=list(FLAGS))
        count = take(chromium, app, address, made, wanted)
        chromium.close()
    print(f"{count} pictures in {wanted.to}")


if __name__ == "__main__":
    main()
