"""Settings about accounts elsewhere: what is refused at start, what is warned of, and what stands behind what."""

import pytest

import config as settings
from tests.conftest import SECRETS

STRICT = {
    **SECRETS,
    "ENVIRONMENT": "production",
    "HOST": "127.0.0.1",
    "PORT": "8000",
    "LOG_LEVEL": "INFO",
    "RATE_LIMIT_PER_MINUTE": "60",
}
SECRET = "a-secret-of-the-back-end-0123456789-abcdef"


def problems(folder, **environ):
    with pytest.raises(settings.ConfigError) as caught:
        settings.load({**STRICT, "INSTANCE_PATH": str(folder), **environ}, root=folder)
    return caught.value.problems


def load(folder, **environ):
    return settings.load({"ENVIRONMENT": "test", "INSTANCE_PATH": str(folder), **environ}, root=folder)


def test_keys_of_others_need_an_audience_in_production(tmp_path):
    url = "https://issuer.test/keys?tenant=a"
    assert [line.partition(":")[0] for line in problems(tmp_path, JWT_JWKS_URL=url)] == ["JWT_AUDIENCE"]
    found = settings.load(
        {**STRICT, "INSTANCE_PATH": str(tmp_path), "JWT_JWKS_URL": url, "JWT_AUDIENCE": "gateway"}, root=tmp_path
    )
    assert found.outside_issuer == url
    assert load(tmp_path, JWT_JWKS_URL=url).jwt_audience == "tollhouse"


def test_a_shared_secret_is_a_good_one_in_production_and_warned_of_elsewhere(tmp_path):
    for name in ("JWT_SECRET", "DJANGO_SECRET_KEY"):
        assert any(line.startswith("JWT_SECRET") for line in problems(tmp_path, **{name: "short"}))
        assert any("JWT_SECRET" in line for line in load(tmp_path, **{name: "short"}).warnings)
        found = load(tmp_path, **{name: SECRET})
        assert (found.shared_secret, found.secret_key) == (SECRET, SECRET)
        assert SECRET in found.secrets
    apart = load(tmp_path, SECRET_KEY="ours", DJANGO_SECRET_KEY=SECRET)
    assert (apart.shared_secret, apart.secret_key) == (SECRET, "ours")
    assert load(tmp_path, SECRET_KEY=SECRET).shared_secret == ""


@pytest.mark.parametrize("url", ["issuer.test/keys", "ftp://issuer.test/keys", "https://a:b@issuer.test/k", "https://"])
def test_what_is_no_address_of_keys_is_refused(tmp_path, url):
    with pytest.raises(settings.ConfigError, match="JWT_JWKS_URL"):
        load(tmp_path, JWT_JWKS_URL=url)


def test_the_issuer_of_the_keys_is_called_as_the_setting_says(tmp_path):
    url = "https://issuer.test/keys"
    assert load(tmp_path, JWT_JWKS_URL=url, JWT_ISSUER="https://issuer.test").outside_issuer == "https://issuer.test"
    assert load(tmp_path, JWT_ISSUER="https://issuer.test").outside_issuer == ""
