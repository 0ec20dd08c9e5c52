"""`flask users link|unlink|identities`."""

import pytest

from models import AuditEntry
from tests.callers import add_user


@pytest.fixture
def command(app):
    def run(*arguments):
        done = app.test_cli_runner().invoke(args=["users", *arguments])
        return done.exit_code, done.output

    return run


def test_somebody_is_linked_listed_and_unlinked(app, command, session):
    number = add_user(app, "ana")
    assert command("link", "ana", "5") == (0, "`5` of `back end` is `ana` here.\n")
    assert command("link", "ana", "x-1", "--issuer", "https://issuer.test")[0] == 0
    assert command("identities") == (0, "ana  5  back end\nana  x-1  https://issuer.test\n")
    assert command("unlink", "5") == (0, "`5` of `back end` is nobody here.\n")
    assert command("identities") == (0, "ana  x-1  https://issuer.test\n")
    noted = [row.action for row in session.query(AuditEntry).filter_by(resource_id=str(number))]
    assert noted == ["identity_link", "identity_link", "identity_unlink"]


def test_what_cannot_be_is_said(app, command):
    add_user(app, "ana")
    add_user(app, "bruno")
    assert command("link", "ana", "5")[0] == 0
    assert command("link", "bruno", "5") == (78, "`5` of `back end` has an account here already.\n")
    assert command("link", "nobody", "6") == (78, "User not found\n")
    assert command("link", "api-tokens", "6")[0] == 78
    assert command("link", "ana", "x" * 256)[0] == 78
    assert command("link", "ana", "a\nb")[0] == 78
    assert command("unlink", "6") == (78, "`6` of `back end` has no account here.\n")
    assert command("identities") == (0, "ana  5  back end\n")
