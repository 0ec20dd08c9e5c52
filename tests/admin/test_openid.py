"""Signing in with an OpenID provider: the way there and back, who one is then, and which role one has."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import Budget, Identity, User, WebSession
from services.audit import Actor
from services.openid import Known
from tests.admin.conftest import Browser, add_user, rows_of, user_of
from tests.admin.openid import CALLBACK, START, begin, come_back, make, sign_in, told
from tests.admin.test_signin import saved_cookie, with_cookie
from tests.conftest import PASSWORD
from tests.fakes.openid import CLIENT, SECRET, OpenIdProvider, jwk

MakeApp = Callable[..., Flask]


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    server = OpenIdProvider()
    yield server
    server.stop()


@pytest.fixture
def acme(make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider) -> Flask:
    """An app that makes users of whoever Acme knows, on SQLite."""
    return make(make_app, sqlite_database, provider)


def test_without_a_provider_there_is_no_button_and_no_way(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    assert "openid" not in browser.get("/admin/login").text
    assert browser.get(START).location == "/admin/login"
    assert browser.get(CALLBACK).location == "/admin/login"


def test_somebody_new_signs_in_and_is_a_user(make_app: MakeApp, database: str, provider: OpenIdProvider) -> None:
    app = make(make_app, database, provider)
    browser = Browser(app)
    page = browser.get("/admin/login", query_string={"next": "/admin/users/"}).text
    assert "Sign in with Acme" in page
    begun = begin(browser, next="/admin/users/")
    assert begun["response_type"] == "code"
    assert begun["client_id"] == CLIENT
    assert begun["scope"] == "openid profile email"
    assert begun["redirect_uri"] == "http://localhost/admin/openid/callback"
    assert begun["code_challenge_method"] == "S256"
    assert len({begun["state"], begun["nonce"], begun["code_challenge"]}) == 3
    code = provider.offer(provider.sign(provider.claims(begun["nonce"])))
    answer = come_back(browser, code=code, state=begun["state"])
    assert (answer.status_code, answer.location) == (303, "/admin/users/")
    assert provider.forms[0]["redirect_uri"] == begun["redirect_uri"]
    assert len(provider.forms[0]["code_verifier"]) >= 43
    assert (provider.authorization[0] or "").startswith("Basic ")
    made = user_of(app, "ana")
    assert made is not None
    assert (made.role, made.password_hash, made.is_active) == ("user", None, True)
    assert browser.get("/admin/").location == "/portal/"  # signed in, and no admin
    with Session(browser.gateway.engine) as session:
        identity = session.scalars(select(Identity)).one()
        assert (identity.issuer, identity.subject, identity.user_id) == (provider.url, "1234", made.id)
        assert session.scalars(select(Budget).where(Budget.scope_id == made.id)).one().limit_amount == 10_000
    assert ("login_success", "ana", {"with": "openid"}) in told(app)
    assert ("user_create", "openid") in [(action, actor) for action, actor, _details in told(app)]


def test_the_next_time_it_is_the_same_user_whatever_the_name(acme: Flask, provider: OpenIdProvider) -> None:
    sign_in(Browser(acme), provider)
    assert sign_in(Browser(acme), provider, preferred_username="somebody-else", email="x@y.test").status_code == 303
    assert [row.username for row in rows_of(acme, User) if row.username in ("ana", "somebody-else")] == ["ana"]


def test_a_mail_address_or_name_of_somebody_here_opens_nothing(acme: Flask, provider: OpenIdProvider) -> None:
    browser = Browser(acme)
    answer = sign_in(browser, provider, preferred_username="admin", email="admin")
    assert answer.status_code == 401
    assert "There is an account of your name here" in answer.text
    assert "Your sign-in" in answer.text
    assert browser.get("/admin/").status_code == 302
    assert rows_of_identities(acme) == []


def rows_of_identities(app: Flask) -> list[Any]:
    with Session(app.extensions["gateway"].engine) as session:
        return list(session.scalars(select(Identity)))


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "Ana Maria"}, "Ana-Maria"),
        ({"preferred_username": "ACME\\ana"}, "ACME-ana"),
        ({"preferred_username": None}, "ana@example.test"),
        ({"preferred_username": None, "email": None}, "1234"),
        ({"preferred_username": "me"}, "me-2"),
        ({"preferred_username": "Erased-2"}, "user-Erased-2"),
        ({"preferred_username": "<script>"}, "script"),
        ({"preferred_username": "''"}, "user"),
        ({"preferred_username": "zoë\u202e\x00"}, "zoë"),
        ({"preferred_username": "n" * 400}, "n" * 140),
        ({"preferred_username": 7}, "ana@example.test"),
    ],
)
def test_names_are_made_to_fit(acme: Flask, provider: OpenIdProvider, claims: dict[str, Any], name: str) -> None:
    assert sign_in(Browser(acme), provider, **claims).status_code == 303
    assert user_of(acme, name) is not None, [row.username for row in rows_of(acme, User)]


def test_two_of_one_name_at_the_provider_are_two_users(acme: Flask, provider: OpenIdProvider) -> None:
    for subject in ("1", "2", "3"):
        assert sign_in(Browser(acme), provider, sub=subject).status_code == 303
    assert {"ana", "ana-2", "ana-3"} <= {row.username for row in rows_of(acme, User)}


def test_users_are_made_only_where_that_is_wanted(
    make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider
) -> None:
    app = make(make_app, sqlite_database, provider, OIDC_CREATE_USERS="false")
    answer = sign_in(Browser(app), provider)
    assert answer.status_code == 401
    assert "makes no accounts by itself" in answer.text
    assert user_of(app, "ana") is None
    assert told(app)[-1][2] == {"with": "openid", "reason": "identity_unknown"}


def test_somebody_disabled_stays_out(acme: Flask, provider: OpenIdProvider) -> None:
    sign_in(Browser(acme), provider)
    with Session(acme.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(User).where(User.username == "ana").values(is_active=False))
    browser = Browser(acme)
    answer = sign_in(browser, provider)
    assert answer.status_code == 401
    assert "disabled" in answer.text
    assert browser.get("/admin/").status_code == 302


ROLES = {"OIDC_ROLES": "platform-admins=admin, finance=auditor", "OIDC_GROUPS_CLAIM": "groups"}


def test_roles_come_and_go_with_groups(make_app: MakeApp, database: str, provider: OpenIdProvider) -> None:
    app = make(make_app, database, provider, **ROLES)
    steps: list[tuple[Any, str]] = [
        (["platform-admins", "finance"], "admin"),
        (["finance", "others"], "auditor"),
        ("platform-admins", "admin"),
        ([], "user"),
        (None, "user"),
        ([7, {"a": 1}, "finance"], "auditor"),
    ]
    for groups, role in steps:
        browser = Browser(app)
        assert sign_in(browser, provider, groups=groups).status_code == 303
        found = user_of(app, "ana")
        assert found is not None
        assert found.role == role, groups
        assert browser.get("/admin/users/").status_code == (403 if role == "user" else 200)
    changes = [details for action, _actor, details in told(app) if action == "user_update"]
    assert {"before": {"role": "admin"}, "after": {"role": "auditor"}} in changes


def test_a_session_of_before_has_the_role_of_now(
    make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider
) -> None:
    app = make(make_app, sqlite_database, provider, **ROLES)
    first = Browser(app)
    sign_in(first, provider, groups=["platform-admins"])
    assert first.get("/admin/users/").status_code == 200
    sign_in(Browser(app), provider, groups=[])
    assert first.get("/admin/users/").status_code == 403


def test_the_last_admin_stays_one(make_app: MakeApp, database: str, provider: OpenIdProvider) -> None:
    app = make(make_app, database, provider, **ROLES)
    sign_in(Browser(app), provider, groups=["platform-admins"])
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(User).where(User.username == "admin").values(role="user"))
    browser = Browser(app)
    assert sign_in(browser, provider, groups=[]).status_code == 303
    assert browser.get("/admin/users/").status_code == 200
    assert "role_kept" in [action for action, _actor, _details in told(app)]


def test_without_a_table_of_roles_they_are_given_here(acme: Flask, provider: OpenIdProvider) -> None:
    sign_in(Browser(acme), provider, groups=["platform-admins"])
    with Session(acme.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(User).where(User.username == "ana").values(role="auditor"))
    sign_in(Browser(acme), provider, groups=[])
    found = user_of(acme, "ana")
    assert found is not None
    assert found.role == "auditor"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["platform-admins"]}}),
        ("https://acme.test/groups", {"https://acme.test/groups": ["platform-admins"]}),
    ],
)
def test_groups_may_stand_in_an_object_or_have_a_long_name(
    make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider, name: str, claims: dict[str, Any]
) -> None:
    app = make(make_app, sqlite_database, provider, **ROLES | {"OIDC_GROUPS_CLAIM": name})
    browser = Browser(app)
    sign_in(browser, provider, **claims)
    assert browser.get("/admin/users/").status_code == 200


def test_what_the_token_does_not_say_is_asked(
    make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider
) -> None:
    provider.metadata["userinfo_endpoint"] = f"{provider.url}/userinfo"
    provider.userinfo = {"sub": "1234", "preferred_username": "bea", "groups": ["finance"]}
    app = make(make_app, sqlite_database, provider, **ROLES)
    assert sign_in(Browser(app), provider, preferred_username=None, email=None).status_code == 303
    found = user_of(app, "bea")
    assert found is not None
    assert found.role == "auditor"
    provider.userinfo["sub"] = "4321"
    assert sign_in(Browser(app), provider, preferred_username=None, email=None).status_code == 401


def test_a_new_key_of_the_provider_is_fetched_and_made_up_ones_are_not(
    acme: Flask, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(Browser(acme), provider)
    assert (provider.count("/keys"), provider.count("/.well-known/openid-configuration")) == (1, 1)
    provider.keys = [jwk("ec-two"), jwk("three")]
    monkeypatch.setattr("services.openid.AGAIN_S", 0.0)
    browser = Browser(acme)
    begun = begin(browser)
    code = provider.offer(provider.sign(provider.claims(begun["nonce"]), "ec-two"))
    assert come_back(browser, code=code, state=begun["state"]).status_code == 303
    assert provider.count("/keys") == 2
    monkeypatch.setattr("services.openid.AGAIN_S", 30.0)
    for number in range(3):
        browser = Browser(acme)
        begun = begin(browser)
        code = provider.offer(provider.sign(provider.claims(begun["nonce"]), "three", kid=f"made-up-{number}"))
        assert come_back(browser, code=code, state=begun["state"]).status_code == 401
    assert (provider.count("/keys"), provider.count("/.well-known/openid-configuration")) == (2, 1)


def test_a_public_client_sends_no_secret(make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider) -> None:
    app = make(make_app, sqlite_database, provider, OIDC_CLIENT_SECRET="")
    assert sign_in(Browser(app), provider).status_code == 303
    assert provider.authorization == [None]
    assert provider.forms[0]["client_id"] == CLIENT
    assert "client_secret" not in provider.forms[0]


def test_a_secret_goes_into_the_form_where_the_provider_wants_that(acme: Flask, provider: OpenIdProvider) -> None:
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert sign_in(Browser(acme), provider).status_code == 303
    assert provider.forms[0]["client_secret"] == SECRET


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"PUBLIC_URL": "https://llm.acme.test/"}, "https://llm.acme.test/admin/openid/callback"),
        (
            {"PUBLIC_URL": "https://x.test", "OIDC_REDIRECT_URL": "https://y.test/admin/openid/callback"},
            "https://y.test/admin/openid/callback",
        ),
    ],
)
def test_the_address_to_come_back_to(
    make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider, environ: dict[str, str], wanted: str
) -> None:
    app = make(make_app, sqlite_database, provider, **environ)
    assert begin(Browser(app))["redirect_uri"] == wanted


def test_signing_out_ends_the_session_and_goes_on_to_the_provider(acme: Flask, provider: OpenIdProvider) -> None:
    provider.metadata["end_session_endpoint"] = f"{provider.url}/end"
    browser = Browser(acme)
    sign_in(browser, provider)
    thief = with_cookie(acme, saved_cookie(browser))
    answer = browser.post("/admin/logout")
    assert answer.location == "/admin/signed-out"
    assert thief.get("/admin/").status_code == 302
    page = browser.get("/admin/signed-out")
    wanted = f"{provider.url}/end?client_id={CLIENT}&post_logout_redirect_uri=http%3A%2F%2Flocalhost%2Fadmin%2Flogin"
    assert page.headers["refresh"] == f"0;url={wanted}"
    assert rows_count(acme) == 0
    by_password = Browser(acme)
    by_password.sign_in("admin", PASSWORD)
    assert by_password.post("/admin/logout").location == "/admin/login"


def rows_count(app: Flask) -> int:
    with Session(app.extensions["gateway"].engine) as session:
        return len(session.scalars(select(WebSession)).all())


def test_of_many_browsers_at_once_one_makes_the_user(
    make_app: MakeApp, database: str, provider: OpenIdProvider
) -> None:
    app = make(make_app, database, provider, **ROLES)
    identities, found = app.extensions["gateway"].identities, []

    def enter(subject: str) -> None:
        known = Known(provider.url, subject, "ana", ("finance",))
        found.append((subject, identities.enter(Actor("openid"), known)))

    threads = [threading.Thread(target=enter, args=(subject,)) for subject in "111122"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({number for _subject, number in found}) == len(set(found)) == 2
    assert {"ana", "ana-2"} <= {row.username for row in rows_of(app, User)}
    assert [action for action, actor, _details in told(app) if actor == "openid"] == ["user_create"] * 2


def test_a_deleted_user_takes_the_link_along(acme: Flask, provider: OpenIdProvider) -> None:
    sign_in(Browser(acme), provider)
    found = user_of(acme, "ana")
    assert found is not None
    Browser(acme, "admin").post("/admin/users/delete/", {"id": str(found.id)})
    assert user_of(acme, "ana") is None
    assert rows_of_identities(acme) == []
    add_user(acme, "bob")
    assert sign_in(Browser(acme), provider).status_code == 303
    assert user_of(acme, "ana") is not None
