"""Settings: where they come from, what is refused, and that all mistakes are named at once."""

import os

import pytest
from cryptography.fernet import Fernet

import config as settings
from config import Config, ConfigError, marks

STRONG = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "s" * 20 + "0123456789abcdef",
    "KEY_PEPPER": "p" * 20 + "0123456789abcdef",
    "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "API_AUTH_TOKENS": "a-token-of-some-length",
    "HOST": "0.0.0.0",
    "PORT": "8000",
    "LOG_LEVEL": "INFO",
    "RATE_LIMIT_PER_MINUTE": "60",
}


def load(root, **environ):
    return settings.load({"INSTANCE_PATH": str(root / "instance"), **environ}, root=root)


def problems(root, **environ):
    with pytest.raises(ConfigError) as caught:
        load(root, **environ)
    return caught.value.problems


def names(found):
    return sorted(problem.split(":")[0] for problem in found)


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_every_mistake_is_named_at_once_with_its_fix(tmp_path):
    found = problems(
        tmp_path,
        PORT="99999",
        LOG_LEVEL="LOUD",
        WEB_CONCURRENCY="many",
        WORKER_CLASS="sync",
        DATABASE_URL="mysql://x",
        ENCRYPTION_KEYS="not-a-key",
        LLM_TIMEOUT="soon",
        SECRET_KEY_FILE=str(tmp_path / "gone"),
    )
    assert names(found) == [
        *("DATABASE_URL", "ENCRYPTION_KEYS", "LLM_TIMEOUT", "LOG_LEVEL", "PORT"),
        *("SECRET_KEY_FILE", "WEB_CONCURRENCY", "WORKER_CLASS"),
    ]
    assert all("Fix" in problem for problem in found)
    assert any("default: 120" in problem for problem in found if problem.startswith("LLM_TIMEOUT"))


@pytest.mark.parametrize(
    ("ports", "is_good"),
    [
        ({"PORT": "8000", "ADMIN_PORT": "8001", "PROXY_PORT": "8002"}, True),
        ({"ADMIN_PORT": "8001"}, True),
        ({"ADMIN_PORT": "8001", "PROXY_PORT": "8001"}, False),
        ({"PORT": "8002", "PROXY_PORT": "8002"}, False),
        ({"ADMIN_PORT": "8000"}, False),  # where gunicorn listens unless told otherwise
    ],
)
def test_each_surface_has_a_port_of_its_own(tmp_path, ports, is_good):
    if is_good:
        assert load(tmp_path, **ports).admin_port == 8001
    else:
        assert names(problems(tmp_path, **ports)) == ["PORT, ADMIN_PORT, PROXY_PORT"]


def test_the_message_says_which_environment_and_how_grave(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, PORT="0")
    assert str(caught.value).startswith("Settings validation failed (non-critical in 'development' environment")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **STRONG | {"PORT": "0"})
    assert str(caught.value).startswith("FATAL: Settings validation failed in 'production' environment:\n  - PORT:")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "perhaps"),
        ("DEFAULT_LOCALE", "fr"),
        ("PORT", "-1"),
        ("ADMIN_PORT", "65536"),
        ("WEB_CONCURRENCY", "0"),
        ("THREADS", "0"),
        ("WORKER_CONNECTIONS", "1.5"),
        ("GRACEFUL_TIMEOUT", "4"),
        ("MAX_BODY_BYTES", "0"),
        ("TRUSTED_PROXIES", "6"),
        ("SSE_KEEPALIVE", "-1"),
        ("REGISTRATION", "maybe"),
        ("INITIAL_TOKEN_BALANCE", "-1"),
        ("INITIAL_TOKEN_BALANCE", "lots"),
        ("ALGORITHM", "none"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("SQLITE_SYNCHRONOUS", "OFF"),
        ("SQL_PORT", "0"),
        ("POSTGRESQL_READ_TIME_OUT", "2 hours"),
        ("ECHO_PROVIDER", "2"),
        ("ALLOW_PRIVATE_UPSTREAMS", "10.0.0.0/99"),
        ("ALLOW_PRIVATE_UPSTREAMS", "house"),
        ("CONNECT_TIMEOUT", "-2"),
        ("LLM_MAX_RETRIES", "11"),
        ("DISCOVERY_INTERVAL", "0.5"),
        ("UNPRICED_POLICY", "free"),
        ("DEFAULT_MAX_OUTPUT_TOKENS", "0"),
        ("RATE_LIMIT_PER_MINUTE", "0"),
        ("DATABASE_URL", "postgres"),
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path, name, value):
    (found,) = problems(tmp_path, **{name: value})
    assert found.startswith(f"{name}: ")


@pytest.mark.parametrize("name", [marks(field)["env"] for field in Config.model_fields.values()])
def test_every_setting_can_be_left_empty(tmp_path, name):
    field = next(field for field in Config.model_fields.values() if marks(field)["env"] == name)
    attribute = next(key for key, value in Config.model_fields.items() if value is field)
    expected = {"INSTANCE_PATH": tmp_path / "instance", "INITIAL_TOKEN_BALANCE": None}.get(name, field.default)
    given = {name: ""} if name != "INSTANCE_PATH" else {}
    assert getattr(settings.load(given, root=tmp_path), attribute) == expected


def test_the_environment_goes_before_the_file_before_what_was_generated_before_the_default(tmp_path):
    write(tmp_path / ".env", "JWT_ISSUER=file\nJWT_AUDIENCE=file\nSECRET_KEY=file\n")
    write(tmp_path / "instance" / "secrets.env", "SECRET_KEY='made'\nKEY_PEPPER='made'\n")
    found = load(tmp_path, JWT_ISSUER="environment")
    assert (found.jwt_issuer, found.jwt_audience) == ("environment", "file")
    assert (found.secret_key, found.key_pepper) == ("file", "made")
    assert found.algorithm == "HS256"


def test_an_empty_variable_does_not_hide_a_file(tmp_path):
    write(tmp_path / ".env", "JWT_ISSUER=\nINSTANCE_PATH=\n")
    assert settings.load({"JWT_AUDIENCE": ""}, root=tmp_path).jwt_issuer == "tollhouse"


def test_other_names_of_a_setting_stand_behind_its_own(tmp_path):
    assert load(tmp_path, JWT_SECRET="j", DJANGO_SECRET_KEY="d").secret_key == "j"
    assert load(tmp_path, DJANGO_SECRET_KEY="d").secret_key == "d"
    assert load(tmp_path, SECRET_KEY="s", JWT_SECRET="j").secret_key == "s"
    assert load(tmp_path, SQLALCHEMY_DATABASE_URI="sqlite:///x").database == ("sqlite:///x", "DATABASE_URL")


def test_a_secret_can_come_from_a_file(tmp_path):
    write(tmp_path / "pepper", "from the file\n")
    assert load(tmp_path, KEY_PEPPER_FILE=str(tmp_path / "pepper")).key_pepper == "from the file"
    assert load(tmp_path, KEY_PEPPER_FILE=str(tmp_path / "pepper"), KEY_PEPPER="itself").key_pepper == "itself"
    (tmp_path / "pepper").write_bytes(b"\xff\xfe")
    (found,) = problems(tmp_path, KEY_PEPPER_FILE=str(tmp_path / "pepper"))
    assert "KEY_PEPPER_FILE" in found
    assert "not UTF-8" in found


@pytest.mark.parametrize(
    ("given", "url", "source"),
    [
        pytest.param({"DATABASE_URL": "sqlite:////x.db"}, "sqlite:////x.db", "DATABASE_URL", id="sqlite"),
        pytest.param({"DATABASE_URL": "postgres://u@h/d"}, "postgresql+psycopg://u@h/d", "DATABASE_URL", id="postgres"),
        pytest.param(
            {"DATABASE_URL": "sqlite+aiosqlite:///./sql_app.db"},
            "sqlite:///./sql_app.db",
            "DATABASE_URL",
            id="driver of another gateway",
        ),
        pytest.param(
            {"DATABASE_URL": "postgresql+asyncpg://h/d"}, "postgresql+psycopg://h/d", "DATABASE_URL", id="other driver"
        ),
        pytest.param(
            {"SQL_NAME": "d b", "SQL_USER": "u@x", "SQL_PASSWD": "p/w", "SQL_PORT": "6543"},
            "postgresql+psycopg://u%40x:p%2Fw@localhost:6543/d%20b",
            "SQL_NAME",
            id="by parts",
        ),
        pytest.param(
            {"POSTGRESQL_HOSTS": "a", "POSTGRESQL_SSL_ENABLED": "true"},
            "postgresql+psycopg://a:5432/tollhouse?sslmode=require",
            "POSTGRESQL_HOSTS",
            id="one host with TLS",
        ),
        pytest.param(
            {"POSTGRESQL_HOSTS": "a,b", "POSTGRESQL_USERNAME": "u", "POSTGRESQL_SSL_ENABLED": "1"},
            "postgresql+psycopg://u@/tollhouse?host=a:5432&host=b:5432&sslmode=require",
            "POSTGRESQL_HOSTS",
            id="two hosts",
        ),
        pytest.param(
            {"SQL_NAME": "d", "POSTGRESQL_HOSTS": "a", "DATABASE_URL": "sqlite://"},
            "sqlite://",
            "DATABASE_URL",
            id="the strongest",
        ),
    ],
)
def test_the_database_may_be_named_in_several_ways(tmp_path, given, url, source):
    assert load(tmp_path, **given).database == (url, source)


def test_without_a_database_a_file_in_the_instance_folder_is_used(tmp_path):
    assert load(tmp_path).database == (f"sqlite:///{tmp_path}/instance/tollhouse.db", "the default")


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2s", 2), ("1.5m", 90), ("1h", 3600), ("1d", 86400), ("7", 7)]
)
def test_durations_are_written_as_people_do(tmp_path, text, seconds):
    assert load(tmp_path, LLM_TIMEOUT=text).llm_timeout_s == seconds


def test_lists_are_split_at_commas(tmp_path):
    found = load(tmp_path, TRUSTED_HOSTS=" a.test, ,b.test,", ALLOW_PRIVATE_UPSTREAMS="10.1.2.3,fd00::/8")
    assert found.trusted_hosts == ("a.test", "b.test")
    assert [str(network) for network in found.allow_private_upstreams] == ["10.1.2.3/32", "fd00::/8"]


def test_strong_settings_are_taken_in_production(tmp_path):
    found = load(tmp_path, **STRONG)
    assert found.is_strict
    assert (found.registration_mode, found.has_echo, found.refuses_unpriced) == ("closed", False, True)
    assert found.warnings == ()


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_strict_environments_name_everything_that_is_missing(tmp_path, environment):
    assert names(problems(tmp_path, ENVIRONMENT=environment)) == [
        *("API_AUTH_TOKENS", "ENCRYPTION_KEYS", "HOST", "KEY_PEPPER", "LOG_LEVEL", "PORT"),
        *("RATE_LIMIT_PER_MINUTE", "SECRET_KEY"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "changeme"),
        ("SECRET_KEY", "a" * 40),
        ("SECRET_KEY", "short-but-odd-1234"),
        ("KEY_PEPPER", "your-secret-key"),
        ("API_AUTH_TOKENS", "long-enough-token-1,short"),
        ("API_AUTH_TOKENS", "test_key"),
        ("DEFAULT_ADMIN_PASSWORD", "letmein"),
        ("DEFAULT_ADMIN_PASSWORD", "elevenchars"),
        ("DEBUG", "true"),
    ],
)
def test_strict_environments_refuse_what_is_weak(tmp_path, name, value):
    (found,) = problems(tmp_path, **STRONG | {name: value})
    assert found.startswith(f"{name}: ")
    assert name == "DEBUG" or value not in found, "a message is no place for a secret"


def test_strict_config_demands_in_development_what_production_does(tmp_path):
    assert names(problems(tmp_path, STRICT_CONFIG="true", HOST="127.0.0.1")) == sorted(
        ["API_AUTH_TOKENS", "PORT", "LOG_LEVEL", "RATE_LIMIT_PER_MINUTE"]
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_weak_password_of_the_admin_is_taken_on_loopback_only(tmp_path, host):
    assert load(tmp_path, DEFAULT_ADMIN_PASSWORD="admin", HOST=host).default_admin_password == "admin"
    assert names(problems(tmp_path, DEFAULT_ADMIN_PASSWORD="admin", HOST="0.0.0.0")) == ["DEFAULT_ADMIN_PASSWORD"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT `prod` is none of"),
        ({"OPENAI_AI_KEY": "sk-1"}, "OPENAI_AI_KEY is taken as OPENAI_API_KEY"),
        ({"VERSION": "9"}, "VERSION is ignored"),
        ({"ENVIRONMENT": "test"}, "the fixed key `test_key` is accepted"),
        ({"API_AUTH_TOKENS": "short"}, "shorter than 16"),
    ],
)
def test_what_only_deserves_a_warning_gets_one(tmp_path, given, said):
    (warning,) = load(tmp_path, **given).warnings
    assert said in warning


def test_secrets_are_known_to_the_logs_and_absent_from_texts(tmp_path):
    found = load(tmp_path, **STRONG | {"OPENAI_API_KEY": "sk-very-secret", "DATABASE_URL": "postgresql://u:pw@h/d"})
    assert {STRONG["SECRET_KEY"], STRONG["API_AUTH_TOKENS"], "sk-very-secret"} <= set(found.secrets)
    assert "sk-very-secret" not in repr(found)
    assert "pw" not in repr(found)
    assert found.environ["OPENAI_API_KEY"] == "sk-very-secret"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own for what `load_prepared` makes, and an empty environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path / "instance"))
    return tmp_path


def test_development_makes_its_secrets_once_for_its_owner_only(here):
    first, path = settings.load_prepared(), here / "instance" / "secrets.env"
    assert path.stat().st_mode & 0o777 == 0o600
    assert all([first.secret_key, first.key_pepper, first.encryption_keys, first.api_auth_tokens])
    assert settings.load_prepared() == first
    assert [file.name for file in path.parent.iterdir()] == ["secrets.env"]


def test_of_two_first_starts_one_makes_the_secrets(here, monkeypatch):
    """Whoever comes second finds the file there when it is about to put its own."""
    link = os.link

    def late(source, target):
        write(target, "SECRET_KEY='x'\nKEY_PEPPER='y'\nAPI_AUTH_TOKENS='z'\nENCRYPTION_KEYS=''\n")
        monkeypatch.setattr(os, "link", link)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    found = settings.load_prepared()
    assert (found.secret_key, found.key_pepper, found.api_auth_tokens) == ("x", "y", ("z",))
    assert [file.name for file in (here / "instance").iterdir()] == ["secrets.env"]


def test_production_makes_none(here, monkeypatch):
    for name, value in STRONG.items():
        monkeypatch.setenv(name, value)
    assert settings.load_prepared().is_strict
    assert list((here / "instance").iterdir()) == []


@pytest.mark.parametrize("text", [None, "[tool]", "[project]\nname = 'x'", "[project"])
def test_name_and_version_come_from_one_file(tmp_path, monkeypatch, text):
    assert settings.project()[0] == "tollhouse"
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    if text is not None:
        write(tmp_path / "pyproject.toml", text)
    with pytest.raises(ConfigError, match=r"pyproject\.toml must stand beside app\.py"):
        settings.project()


def test_what_development_made_up_is_not_read_in_production(tmp_path):
    write(tmp_path / "instance" / "secrets.env", "SECRET_KEY='made'\nAPI_AUTH_TOKENS='dev_0123456789abcdef'\n")
    given = {name: value for name, value in STRONG.items() if name not in ("SECRET_KEY", "API_AUTH_TOKENS")}
    found = problems(tmp_path, **given)
    assert names(found)[:2] == [
        str(tmp_path / "instance" / "secrets.env is for development alone. Fix"),
        "API_AUTH_TOKENS",
    ]
    assert "SECRET_KEY" in names(found)
    assert load(tmp_path, **STRONG).api_auth_tokens == (STRONG["API_AUTH_TOKENS"],)


def test_what_somebody_sets_in_whatever_way_goes_before_what_was_generated(tmp_path):
    write(tmp_path / "instance" / "secrets.env", "SECRET_KEY='made'\nKEY_PEPPER='made'\n")
    write(tmp_path / "pepper", "mine")
    found = load(tmp_path, KEY_PEPPER_FILE=str(tmp_path / "pepper"), JWT_SECRET="mine")
    assert (found.key_pepper, found.secret_key) == ("mine", "mine")


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OLLAMA_BASE_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com/v1",
        "ftp://h/v1",
        "http://",
        "http://u:hunter2@h/v1",
        "http://h/?a=1",
        "http://h:x",
        "http://h /",
    ],
)
def test_the_address_of_a_provider_is_one(tmp_path, name, url):
    (found,) = problems(tmp_path, **{name: url})
    assert found.startswith(f"{name}: ")
    assert "hunter2" not in found


@pytest.mark.parametrize("token", ["with space in it 1234", "slash/and+plus=0123456", "schlüssel-0123456789"])
def test_a_fixed_token_that_no_header_could_bring_is_refused(tmp_path, token):
    (found,) = problems(tmp_path, API_AUTH_TOKENS=f"good-token-0123456,{token}")
    assert found.startswith("API_AUTH_TOKENS: ")
    assert token not in found


@pytest.mark.parametrize("folder", ["a-file/instance", "a-file"])
def test_a_folder_that_cannot_be_made_or_written_is_a_mistake(here, monkeypatch, folder):
    (here / "a-file").touch()
    monkeypatch.setenv("INSTANCE_PATH", str(here / folder))
    with pytest.raises(ConfigError, match=r"INSTANCE_PATH: .* cannot be written"):
        settings.load_prepared()
