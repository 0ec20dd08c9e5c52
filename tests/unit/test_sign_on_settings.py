"""The settings of sign-on: what is refused at the start, and how roles of groups are read."""

from pathlib import Path

import pytest

import config as settings
from config import ConfigError
from tests.conftest import SECRETS
from utils.settings import pairs

GOOD = {"OIDC_ISSUER": "https://id.acme.test/realms/main", "OIDC_CLIENT_ID": "tollhouse"}


def load(folder: Path, **environ: str) -> settings.Config:
    return settings.load({"ENVIRONMENT": "test", "INSTANCE_PATH": str(folder), **SECRETS, **environ}, root=folder)


def test_without_an_issuer_nothing_else_matters(tmp_path: Path) -> None:
    found = load(tmp_path, OIDC_SCOPES="nothing")
    assert (found.oidc_issuer, found.oidc_create_users, found.require_second_factor) == ("", False, "never")


def test_roles_of_groups_are_read(tmp_path: Path) -> None:
    found = load(tmp_path, **GOOD, OIDC_ROLES="platform-admins=admin, a=b=auditor,,")
    assert found.oidc_roles == (("platform-admins", "admin"), ("a=b", "auditor"))


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"OIDC_CLIENT_ID": ""}, "OIDC_CLIENT_ID"),
        ({"OIDC_ISSUER": "id.acme.test"}, "OIDC_ISSUER"),
        ({"OIDC_ISSUER": "https://user:password@id.acme.test"}, "OIDC_ISSUER"),
        ({"OIDC_SCOPES": "profile email"}, "OIDC_SCOPES"),
        ({"OIDC_REDIRECT_URL": "https://llm.acme.test/"}, "OIDC_REDIRECT_URL"),
        ({"OIDC_ROLES": "platform-admins"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "platform-admins=root"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "=admin"}, "OIDC_ROLES"),
        ({"REQUIRE_SECOND_FACTOR": "sometimes"}, "REQUIRE_SECOND_FACTOR"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, environ: dict[str, str], names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **GOOD | environ)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [names]


@pytest.mark.parametrize("value", [None, 7, ("a", "b")])
def test_what_is_no_text_is_left_for_the_type_check(value: object) -> None:
    assert pairs(value) == value
