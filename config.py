"""Every setting of the gateway; the only module that reads the environment and `.env`.

`load()` collects all mistakes and raises them at once, each with what to do about it. Sources, strongest
first: environment, `.env` in the root folder, `secrets.env` in the instance folder (not in staging and production),
the default.
`docs/configuration.md` is generated from the fields below (`flask config docs`).
"""

import os
import secrets
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.fernet import Fernet
from dotenv import dotenv_values
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

import config_checks
from config_alerts import AlertSettings
from config_checks import SECRETS_FILE, corrected, is_strict, problems_of
from config_control import ControlSettings
from config_fields import (
    Balance,
    Commas,
    Count,
    Days,
    LogLevel,
    Networks,
    Patterns,
    Port,
    RolesOfGroups,
    Seconds,
    Share,
    Statistics,
)
from config_fields import marks as marks  # noqa: PLC0414 - said twice, it may be imported from here as well
from config_fields import setting as _
from utils import settings

ROOT: Final = Path(__file__).resolve().parent
EXIT_BAD_CONFIG: Final = 78  # EX_CONFIG of sysexits.h
MIN_PASSWORD: Final = config_checks.MIN_PASSWORD
IN_HEADERS: Final = ("_API_KEY", "_AUTH_KEY", "_AI_KEY", "_ORG_ID")  # how the settings end that are sent in headers


class ConfigError(Exception):
    """The settings cannot be used; `problems` has one line for each mistake."""

    def __init__(self, environment: str, problems: list[str]) -> None:
        self.environment, self.problems = environment, problems
        head = f"Settings validation failed (non-critical in '{environment}' environment, but start halts):"
        if environment in ("production", "staging"):
            head = f"FATAL: Settings validation failed in '{environment}' environment:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in problems)]))


class Config(ControlSettings, AlertSettings):
    """All settings, checked and frozen. Attribute = setting; units stand in the names."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    # A table: one line a setting, however long.
    # fmt: off
    environment: Literal["development", "test", "staging", "production"] = _(
        "ENVIRONMENT", "development", "How strict to be. An unknown value warns and means `development`.", group="General")
    debug: bool = _("DEBUG", False, "Tracebacks in the log. Never in answers; refused in staging and production.")
    strict_config: bool = _("STRICT_CONFIG", False, "Also in development and test: `HOST`, `PORT`, `LOG_LEVEL` and `RATE_LIMIT_PER_MINUTE` must be set.")
    log_level: LogLevel = _("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    log_format: Literal["json", "text", ""] = _("LOG_FORMAT", "", "`json` for an object a line, `text` for people; unset = `json` in staging and production.")
    access_log: bool = _("ACCESS_LOG", True, "A line for every answered request ([observability.md](observability.md)); signs of life and files of pages at `DEBUG` only.")
    default_locale: Literal["en", "pt_BR"] = _("DEFAULT_LOCALE", "en", "Language of messages when the caller names none: `en` or `pt_BR`.")
    instance_path: Path = _("INSTANCE_PATH", Path("instance"), "Folder for the SQLite file, generated secrets and the settlement spool.")
    config_file: Path | None = _("TOLLHOUSE_CONFIG", None, "YAML file with providers and models, applied at every start.")

    host: str = _("HOST", "127.0.0.1", "Address to listen on.", group="Server")
    port: Port | None = _("PORT", None, "Port of gunicorn (8000 when unset) and of `python app.py` (5000 when unset).")
    admin_port: Port | None = _("ADMIN_PORT", None, "Port that serves only the admin surfaces.")
    proxy_port: Port | None = _("PROXY_PORT", None, "Port that serves only the proxy surfaces.")
    metrics_token: str = _("METRICS_TOKEN", "", "What Prometheus sends as `Authorization: Bearer …` to read `/metrics` (16 characters or more); admins may always read it.", secret=True)
    web_concurrency: Count = _("WEB_CONCURRENCY", 1, "Worker processes.")
    worker_class: Literal["gevent", "gthread"] = _("WORKER_CLASS", "gevent", "gunicorn worker kind; `sync` would hold one stream a process and is refused.")
    threads: Count = _("THREADS", 64, "Calls that a gthread worker answers at once, a thread each; it has half as many more for all that is no call.")
    worker_connections: Count = _("WORKER_CONNECTIONS", 2000, "Calls that a gevent worker answers at once; it takes half as many more connections, for all that is no call.")
    graceful_timeout_s: Annotated[int, Field(ge=5)] = _("GRACEFUL_TIMEOUT", 30, "Seconds that open streams may go on after SIGTERM; 3 s before the end they are ended and booked.")
    max_body_bytes: Count = _("MAX_BODY_BYTES", 20 * 1024 * 1024, "Largest request body; larger ones get 413.")
    trusted_proxies: Annotated[int, Field(ge=0, le=5)] = _("TRUSTED_PROXIES", 0, "Reverse proxies in front whose `X-Forwarded-*` headers are believed.")
    trusted_hosts: Commas = _("TRUSTED_HOSTS", (), "Host names the gateway answers to; empty = any.")
    public_url: str = _("PUBLIC_URL", "", "Address people use, for links; empty = `http://HOST:PORT`.")
    cors_origins: Commas = _("CORS_ORIGINS", (), "Browser origins that may call `/v1` and `/api/providers` (`*` = any, never with cookies); empty = none.")
    docs_enabled: bool | None = _("DOCS_ENABLED", None, "`/docs`, `/redoc` and `/openapi.json`; unset = on in development and test only.")
    sse_keepalive_s: Seconds = _("SSE_KEEPALIVE", 15.0, "A comment line is sent into a stream that was silent this long; 0 = never.")

    secret_key: str = _("SECRET_KEY", "", "Signs sessions and tokens (32 characters or more).", also=("JWT_SECRET", "DJANGO_SECRET_KEY"), secret=True, group="Secrets")
    secret_keys_previous: Commas = _("SECRET_KEY_PREVIOUS", (), "Earlier values: what they signed is still believed, and nothing new is signed with them.", secret=True)
    key_pepper: str = _("KEY_PEPPER", "", "Mixed into the stored digests of API keys (32 characters or more). Changing it voids every key, but for those that `KEY_PEPPER_PREVIOUS` still opens.", secret=True)
    key_peppers_previous: Commas = _("KEY_PEPPER_PREVIOUS", (), "Earlier values: a key stored under one of them still opens, and moves to the new one when it is used; see [secrets.md](secrets.md).", secret=True)
    encryption_keys: Commas = _("ENCRYPTION_KEYS", (), "Fernet keys that seal provider credentials, newest first.", secret=True)
    api_auth_tokens: Commas = _("API_AUTH_TOKENS", (), "Fixed API keys of the built-in account `api-tokens`.", secret=True)

    default_admin_username: str = _("DEFAULT_ADMIN_USERNAME", "admin", "First admin, made at the first start.", group="People")
    default_admin_password: str = _("DEFAULT_ADMIN_PASSWORD", "", "Its password. Empty: generated and shown once (development, test); no admin is made (staging, production).", secret=True)
    registration: Literal["open", "invite", "closed", ""] = _("REGISTRATION", "", "Who may `POST /register`: `open` anybody, `invite` whoever has an invitation, `closed` nobody; unset = open in development and test, else closed.")
    initial_token_balance: Balance = _("INITIAL_TOKEN_BALANCE", 10000, "Prepaid tokens of a self-registered user; empty = unlimited.")
    default_token_limit: Balance = _("DEFAULT_TOKEN_LIMIT", None, "Tokens that a self-registered user may use in all; empty = unlimited.")
    login_returns_api_key: bool = _("LOGIN_RETURNS_API_KEY", True, "`POST /login` returns the user's default key; false keeps no copy of it.")
    algorithm: Literal["HS256"] = _("ALGORITHM", "HS256", "Signature of the tokens from `POST /login`.")
    access_token_minutes: Count = _("ACCESS_TOKEN_EXPIRE_MINUTES", 30, "Life of those tokens, minutes.")
    jwt_audience: str = _("JWT_AUDIENCE", "tollhouse", "Audience written into and demanded of tokens.")
    jwt_issuer: str = _("JWT_ISSUER", "tollhouse", "Issuer written into and demanded of tokens.")
    shared_secret: str = _("JWT_SECRET", "", "A back end that knows this secret too (32 characters or more) signs tokens for its users with it, HS256; see [outside-accounts.md](outside-accounts.md).", also=("DJANGO_SECRET_KEY",), secret=True)
    jwt_jwks_url: str = _("JWT_JWKS_URL", "", "Public keys of an outside issuer whose tokens count here, RS256 or ES256; needs `JWT_AUDIENCE` in staging and production.")
    outside_create_users: bool = _("OUTSIDE_CREATE_USERS", False, "Whether the first token or sign-in of somebody unknown makes a user; else an operator links users with `flask users link`.")
    auth_backend: Literal["local", "http"] = _("AUTH_BACKEND", "local", "Who signs people in: `local` the gateway, `http` also the service at `BACKEND_AUTH_URL`, for names that have no password here.")
    backend_auth_url: str = _("BACKEND_AUTH_URL", "http://localhost:8000/api/v1/login/", "That service; asked only with `AUTH_BACKEND=http`, which needs it set in staging and production.")
    backend_users_url: str = _("BACKEND_USERS_URL", "", "Its list of users, for `flask users pull`.")
    auth_verify_url: str = _("AUTH_VERIFY_URL", "", "Taken and not used: tokens are checked by their signature, not by a question for each call.")
    admin_pass: str = _("ADMIN_PASS", "", "`X-API-KEY` of the key management API.", secret=True)

    oidc_issuer: str = _("OIDC_ISSUER", "", "Issuer of an OpenID provider that people may sign in to the panel with; see [sign-on.md](sign-on.md). Empty: passwords only.", group="Sign-on")
    oidc_client_id: str = _("OIDC_CLIENT_ID", "", "What the gateway is called there.")
    oidc_client_secret: str = _("OIDC_CLIENT_SECRET", "", "Its secret there; empty = a public client.", secret=True)
    oidc_scopes: str = _("OIDC_SCOPES", "openid profile email", "What is asked of the provider, with spaces between; some need `groups` as well.")
    oidc_name: str = _("OIDC_NAME", "OpenID", "The provider's name on the sign-in page.")
    oidc_groups_claim: str = _("OIDC_GROUPS_CLAIM", "groups", "Claim with a person's groups; a dot leads into an object, as in `realm_access.roles`.")
    oidc_roles: RolesOfGroups = _("OIDC_ROLES", (), "Roles by group, as `platform-admins=admin,finance=auditor`, given and taken at every such sign-in; empty = roles are given here.")
    oidc_create_users: bool = _("OIDC_CREATE_USERS", False, "Whether the first sign-in of somebody unknown makes a user, who starts as one that registers does.")
    oidc_redirect_url: str = _("OIDC_REDIRECT_URL", "", "Where the provider sends people back to; empty = `PUBLIC_URL`, else the address of the request, with `/admin/openid/callback`.")
    oidc_ca_file: str = _("OIDC_CA_FILE", "", "A file with the authorities that sign its certificate; empty = the public ones.")
    require_second_factor: Literal["never", "admins", "all"] = _("REQUIRE_SECOND_FACTOR", "never", "Who must sign in with a code of an authenticator app besides the password: nobody (`never`), `admins`, or `all`. Anybody may.")

    database_url: str = _("DATABASE_URL", "", "SQLite or Postgres; driver suffixes such as `+asyncpg` are dropped. Precedence: this, `SQLALCHEMY_DATABASE_URI`, `SQL_*`, `POSTGRESQL_*`, a SQLite file in the instance folder.",
                          also=("SQLALCHEMY_DATABASE_URI",), secret=True, group="Database")
    track_modifications: bool = _("SQLALCHEMY_TRACK_MODIFICATIONS", False, "Event tracking of Flask-SQLAlchemy.")
    db_echo: bool = _("DB_ECHO", False, "Log the statements of the control plane.")
    database_wait_s: Seconds = _("DATABASE_WAIT", 60.0, "How long a start waits for a Postgres that does not answer yet.")
    db_pool_size: Count = _("DB_POOL_SIZE", 5, "Postgres connections kept per worker, for the pages and again for the books.")
    db_max_overflow: Annotated[int, Field(ge=0)] = _("DB_MAX_OVERFLOW", 10, "Further connections of the pages under load.")
    db_pooling: Literal["session", "transaction"] = _("DB_POOLING", "session", "How a pooler between here and Postgres lends connections: `transaction` for pgbouncer with `pool_mode = transaction`, else `session`; see [deploy.md](deploy.md#pgbouncer).")
    sqlite_synchronous: Literal["NORMAL", "FULL"] = _("SQLITE_SYNCHRONOUS", "NORMAL", "`FULL` also survives a power cut with nothing lost, at about 0.2 ms a call.")
    sql_user: str = _("SQL_USER", "", "Postgres by parts: user.")
    sql_passwd: str = _("SQL_PASSWD", "", "… password.", secret=True)
    sql_name: str = _("SQL_NAME", "", "… database; setting it chooses this form.")
    sql_host: str = _("SQL_HOST", "localhost", "… host.")
    sql_port: Port = _("SQL_PORT", 5432, "… port.")
    postgresql_hosts: Commas = _("POSTGRESQL_HOSTS", (), "Postgres by parts, second form: hosts, tried in order; setting it chooses this form.")
    postgresql_username: str = _("POSTGRESQL_USERNAME", "", "… user.")
    postgresql_password: str = _("POSTGRESQL_PASSWORD", "", "… password.", secret=True)
    postgresql_db: str = _("POSTGRESQL_DB", "tollhouse", "… database.")
    postgresql_ssl_enabled: bool = _("POSTGRESQL_SSL_ENABLED", False, "… TLS required.")
    postgresql_port: Port = _("POSTGRESQL_PORT", 5432, "… port.")
    postgresql_read_timeout_s: Seconds = _("POSTGRESQL_READ_TIME_OUT", 2.0, "Longest statement of the books on Postgres, as `2s` or `500ms`.")
    postgresql_write_timeout_s: Seconds = _("POSTGRESQL_WRITE_TIME_OUT", 1.0, "Longest wait of the books for a row lock on Postgres.")
    lease_calls_per_s: Annotated[int, Field(ge=0)] = _("LEASE_CALLS_PER_S", 200, "From how many calls a second on this host budgets and limits are leased to its workers, and hits of the cache booked together (Postgres); 0 = never.")
    refresh_interval_s: Seconds = _("IN_MEMORY_DB_UPDATE_INTERVAL", 1.0, "How often a worker looks for changed keys, models and prices; more than 2 s is taken as 2 s.")

    redis_url: str = _("REDIS_URL", "", "Valkey or Redis that counts limits, as `redis://[:password@]host[:port][/number]` (`rediss://` with TLS, `unix://` for a socket); see [limits.md](limits.md). Empty: `REDIS_HOSTS`, else the database counts.", secret=True, group="Redis")
    redis_ttl_s: Annotated[int, Field(ge=1)] = _("REDIS_TTL", 3600, "Life of cached entries, seconds.", later="the cache")
    redis_hosts: Commas = _("REDIS_HOSTS", (), "Redis by parts: its host. One only: two would each keep counts of their own.")
    redis_port: Port = _("REDIS_PORT", 6379, "… port.")
    redis_password: str = _("REDIS_PASSWORD", "", "… password.", secret=True)
    redis_read_timeout_s: Seconds = _("REDIS_READ_TIME_OUT", 1.0, "… longest wait for an answer; a call never waits longer than 100 ms.")
    redis_write_timeout_s: Seconds = _("REDIS_WRITE_TIME_OUT", 0.5, "… longest write, likewise.")

    openai_api_key: str = _("OPENAI_API_KEY", "", "Adds the provider `openai` with everything it lists.", also=("OPENAI_AI_KEY",), secret=True, group="Providers")
    openai_base_url: str = _("OPENAI_BASE_URL", "https://api.openai.com/v1", "Its address, or that of any compatible server.")
    openai_org_id: str = _("OPENAI_ORG_ID", "", "Sent as `OpenAI-Organization`.")
    ollama_base_url: str = _("OLLAMA_BASE_URL", "", "Adds the provider `ollama` (for example http://localhost:11434) with everything it has pulled.")
    anthropic_api_key: str = _("ANTHROPIC_API_KEY", "", "Adds the provider `anthropic` with everything it lists.", secret=True)
    anthropic_base_url: str = _("ANTHROPIC_BASE_URL", "https://api.anthropic.com", "Its address, without `/v1`.")
    gemini_api_key: str = _("GEMINI_API_KEY", "", "Adds the provider `gemini` with everything it lists.", secret=True)
    gemini_base_url: str = _("GEMINI_BASE_URL", "", "Its address; empty = the public one.")
    azure_openai_endpoint: str = _("AZURE_OPENAI_ENDPOINT", "", "With `AZURE_OPENAI_API_KEY` adds the provider `azure`. It does not list its deployments: add them as models.")
    azure_openai_api_key: str = _("AZURE_OPENAI_API_KEY", "", "Its key.", secret=True)
    azure_openai_api_version: str = _("AZURE_OPENAI_API_VERSION", "", "Its API version, such as `2024-10-21` (used when empty) or `v1`.", also=("OPENAI_API_VERSION",))
    gigachat_auth_key: str = _("GIGACHAT_AUTH_KEY", "", "Authorization key (base64): adds the provider `gigachat` with everything it lists.", also=("GIGACHAT_CREDENTIALS",), secret=True)
    gigachat_scope: str = _("GIGACHAT_SCOPE", "GIGACHAT_API_PERS", "Its scope; also `GIGACHAT_API_B2B` and `GIGACHAT_API_CORP`.")
    gigachat_base_url: str = _("GIGACHAT_BASE_URL", "", "Its address; empty = the public one.")
    gigachat_auth_url: str = _("GIGACHAT_AUTH_URL", "", "Where its tokens are had; empty = the public service.")
    gigachat_ca_file: str = _("GIGACHAT_CA_FILE", "", "A file with the authorities that sign its certificate.", also=("GIGACHAT_CA_BUNDLE_FILE",))
    mistral_api_key: str = _("MISTRAL_API_KEY", "", "Adds the provider `mistral` with everything it lists.", secret=True)
    groq_api_key: str = _("GROQ_API_KEY", "", "Adds the provider `groq` with everything it lists.", secret=True)
    deepseek_api_key: str = _("DEEPSEEK_API_KEY", "", "Adds the provider `deepseek` with everything it lists.", secret=True)
    openrouter_api_key: str = _("OPENROUTER_API_KEY", "", "Adds the provider `openrouter` with everything it lists.", secret=True)
    together_api_key: str = _("TOGETHER_API_KEY", "", "Adds the provider `together` with everything it lists.", secret=True)
    fireworks_api_key: str = _("FIREWORKS_API_KEY", "", "Adds the provider `fireworks` with everything it lists.", secret=True)
    xai_api_key: str = _("XAI_API_KEY", "", "Adds the provider `xai` with everything it lists.", secret=True)
    perplexity_api_key: str = _("PERPLEXITY_API_KEY", "", "Adds the provider `perplexity`. It lists no models: add them by name.", secret=True)
    cerebras_api_key: str = _("CEREBRAS_API_KEY", "", "Adds the provider `cerebras` with everything it lists.", secret=True)
    nebius_api_key: str = _("NEBIUS_API_KEY", "", "Adds the provider `nebius` with everything it lists.", secret=True)
    sambanova_api_key: str = _("SAMBANOVA_API_KEY", "", "Adds the provider `sambanova` with everything it lists.", secret=True)
    moonshot_api_key: str = _("MOONSHOT_API_KEY", "", "Adds the provider `moonshot` with everything it lists.", secret=True)
    zai_api_key: str = _("ZAI_API_KEY", "", "Adds the provider `zai` with everything it lists.", secret=True)
    dashscope_api_key: str = _("DASHSCOPE_API_KEY", "", "Adds the provider `dashscope` with everything it lists.", secret=True)
    nvidia_api_key: str = _("NVIDIA_API_KEY", "", "Adds the provider `nvidia` with everything it lists.", secret=True)
    cohere_api_key: str = _("COHERE_API_KEY", "", "Adds the provider `cohere` with everything it lists.", secret=True)
    deepinfra_api_key: str = _("DEEPINFRA_API_KEY", "", "Adds the provider `deepinfra` with everything it lists.", secret=True)
    minimax_api_key: str = _("MINIMAX_API_KEY", "", "Adds the provider `minimax` with everything it lists.", secret=True)
    novita_api_key: str = _("NOVITA_API_KEY", "", "Adds the provider `novita` with everything it lists.", secret=True)
    echo_provider: bool | None = _("ECHO_PROVIDER", None, "The built-in `echo` provider; unset = on in development and test only.")
    allow_private_upstreams: Networks = _("ALLOW_PRIVATE_UPSTREAMS", (), "Networks (CIDR, comma list) in which staging and production may reach providers, also by plain http. Development and test may reach all private ones; link-local and metadata addresses never.")
    connect_timeout_s: Seconds = _("CONNECT_TIMEOUT", 5.0, "Longest wait for a connection to a provider.")
    llm_timeout_s: Seconds = _("LLM_TIMEOUT", 120.0, "Longest silence of a provider, before the first byte and between two.")
    proxy_timeout_s: Seconds = _("PROXY_TIMEOUT", 600.0, "Longest call in all.")
    llm_max_retries: Annotated[int, Field(ge=0, le=10)] = _("LLM_MAX_RETRIES", 3, "Rounds over a model's deployments after the first, with growing pauses; a model can say otherwise.")
    discovery_interval_s: Annotated[Seconds, Field(ge=1)] = _("DISCOVERY_INTERVAL", 60.0, "How often providers are asked which models they have.")

    unpriced_policy: Literal["refuse", "free_flagged", ""] = _("UNPRICED_POLICY", "", "A model without a price: `refuse` (402) or `free_flagged` (booked at 0 and marked); unset = refuse in staging and production.", group="Money")
    default_max_output_tokens: Count = _("DEFAULT_MAX_OUTPUT_TOKENS", 4096, "Output limit sent with a call that has none, where a budget applies and the model's own limit is unknown.")
    responses_retention_days: Days = _("RESPONSES_RETENTION_DAYS", 30, "Days that answers of `/v1/responses` are kept (sealed with `ENCRYPTION_KEYS`) for `previous_response_id`; 0 = never stored.", group="Answers")
    bodies_retention_days: Days = _("BODIES_RETENTION_DAYS", 30, "Days that requests and answers of keys with `shouldLogRequest` or `shouldLogResponse` are kept, redacted and sealed ([privacy.md](privacy.md)); 0 = never stored.", group="Privacy")
    redact_patterns: Patterns = _("REDACT_PATTERNS", (), "Regular expressions, one a line or with `;;` between them: what they match in those texts is stored as `[redacted]`.")
    dialogs_retention_days: Days = _("DIALOGS_RETENTION_DAYS", 0, "Days after its last change that a dialog is deleted; 0 = kept.")
    invitations_retention_days: Days = _("INVITATIONS_RETENTION_DAYS", 0, "Days after its end that an invitation which was used or has expired is deleted; 0 = kept.")
    llm_default_model: str = _("LLM_DEFAULT_MODEL", "", "Model of dialogs that name none; empty = they must.", group="Dialogs")
    max_messages_per_dialog: Annotated[int, Field(ge=2, le=100_000)] = _("MAX_MESSAGES_PER_DIALOG", 1000, "Messages of a dialog, answers included.")
    max_content_length: Annotated[int, Field(ge=1, le=4_000_000)] = _("MAX_CONTENT_LENGTH", 100_000, "Characters of a message that a person sends.")
    max_import_bytes: Count = _("MAX_IMPORT_BYTES", 10 * 1024 * 1024, "Largest file of dialogs that `POST /api/v1/export/import` takes; never more than `MAX_BODY_BYTES`.")
    webhook_urls: Commas = _("WEBHOOK_URLS", (), "Addresses (comma list) that are told of messages, answers and balances of dialogs: docs/webhooks.md. Private ones as with providers.", group="Webhooks")
    webhook_secret: str = _("WEBHOOK_SECRET", "", "Signs what is sent to them; 16 characters or more.", secret=True)
    rate_limit_per_minute: Count | None = _("RATE_LIMIT_PER_MINUTE", None, "Requests per minute and client address on `/v1`.", group="Limits")
    rate_limit_enabled: bool | None = _("RATE_LIMIT_ENABLED", None, "Whether each user has a limit of requests; unset = if `RATE_LIMIT_REQUESTS` is set.")
    rate_limit_requests: Count | None = _("RATE_LIMIT_REQUESTS", None, "Requests of one user per window; 100 where `RATE_LIMIT_ENABLED` is true and this is unset.")
    rate_limit_window_s: Annotated[int, Field(ge=1, le=86400)] = _("RATE_LIMIT_WINDOW", 60, "Its sliding window, seconds.")

    statistics: Statistics = _("STATS_PROVIDER", None, "Sends figures over UDP: `datadog` or `statsd`, for another place than 127.0.0.1:8125 with `://host:port` behind it; a bare `host:port` is StatsD's. See [observability.md](observability.md).", group="Figures and traces")
    otel_endpoint: str = _("OTEL_EXPORTER_OTLP_ENDPOINT", "", "Collector that gets traces and metrics over OTLP/HTTP, such as http://127.0.0.1:4318; needs requirements-otel.txt. Empty: none.")
    otel_headers: str = _("OTEL_EXPORTER_OTLP_HEADERS", "", "What is sent along to it, as `name=value,name=value` with %xx for other characters.", secret=True)
    otel_service: str = _("OTEL_SERVICE_NAME", "tollhouse", "What the gateway is called there.")
    otel_share: Share = _("OTEL_TRACES_SAMPLER_ARG", 1.0, "Share of the calls that are traced, 0 to 1, where their caller has not decided it.")
    trace_upstream: bool = _("TRACE_UPSTREAM", False, "Whether providers are sent `traceparent` and `tracestate`, so that what they trace belongs to the call.")

    # fmt: on

    _environ: dict[str, str] = PrivateAttr(default_factory=dict)
    _warnings: list[str] = PrivateAttr(default_factory=list)

    @property
    def is_strict(self) -> bool:
        """Whether this is staging or production."""
        return self.environment in ("staging", "production")

    @property
    def logs_json(self) -> bool:
        """Whether log lines are JSON objects."""
        return self.is_strict if self.log_format == "" else self.log_format == "json"

    @property
    def database(self) -> tuple[str, str]:
        """SQLAlchemy's address of the database, and the setting it came from (precedence C7 of the docs)."""
        if self.database_url:
            return settings.database_url(self.database_url), "DATABASE_URL"
        if self.sql_name:
            hosts, port, user, password = (self.sql_host,), self.sql_port, self.sql_user, self.sql_passwd
            return settings.postgres_url(hosts, port, user, password, self.sql_name), "SQL_NAME"
        if self.postgresql_hosts:
            url = settings.postgres_url(
                self.postgresql_hosts,
                self.postgresql_port,
                self.postgresql_username,
                self.postgresql_password,
                self.postgresql_db,
            )
            secure = ("&" if "?" in url else "?") + "sslmode=require" if self.postgresql_ssl_enabled else ""
            return url + secure, "POSTGRESQL_HOSTS"
        return f"sqlite:///{self.instance_path.resolve() / 'tollhouse.db'}", "the default"

    @property
    def registration_mode(self) -> str:
        """Who may make themselves an account: `open`, `invite` or `closed`."""
        return self.registration or ("closed" if self.is_strict else "open")

    @property
    def outside_issuer(self) -> str:
        """What the issuer of `JWT_JWKS_URL` is called in the tables; empty = there is none."""
        is_named = self.jwt_jwks_url and "jwt_issuer" in self.model_fields_set
        return self.jwt_issuer if is_named else self.jwt_jwks_url

    @property
    def has_echo(self) -> bool:
        """Whether the built-in provider is offered."""
        return not self.is_strict if self.echo_provider is None else self.echo_provider

    @property
    def has_docs(self) -> bool:
        """Whether the pages about the API are served."""
        return not self.is_strict if self.docs_enabled is None else self.docs_enabled

    @property
    def refuses_unpriced(self) -> bool:
        """Whether a model without a price is refused rather than booked at 0."""
        return self.is_strict if self.unpriced_policy == "" else self.unpriced_policy == "refuse"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of all secret settings, for logs to leave out."""
        values = [getattr(self, name) for name, field in Config.model_fields.items() if marks(field).get("secret")]
        return tuple(text for value in values for text in ([value] if isinstance(value, str) else value) if text)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What start-up tells the operator, one line each."""
        return tuple(self._warnings)

    @property
    def environ(self) -> Mapping[str, str]:
        """The merged environment, for `${NAME}` in the configuration file."""
        return dict(self._environ)


def load(environ: Mapping[str, str] | None = None, *, root: Path = ROOT) -> Config:
    """The checked settings from the given environment (default: the process's) and the `.env` files.

    Raises:
        ConfigError: with every mistake found, each with its fix.
    """
    merged = _merged(os.environ if environ is None else environ, root)
    warnings = corrected(merged)
    environment = merged.get("ENVIRONMENT", "development")
    secret_names = [marks(field)["env"] for field in Config.model_fields.values() if marks(field).get("secret")]
    problems = settings.read_secret_files(merged, secret_names)
    try:
        config = Config.model_validate(merged)
    except ValidationError as exc:
        problems += settings.explain(exc, Config.model_fields)
        wrong = {str(mistake["loc"][0]) for mistake in exc.errors()}
        config = Config.model_validate({name: value for name, value in merged.items() if name not in wrong})
    problems += settings.port_problems(config.port or settings.GUNICORN_PORT, config.admin_port, config.proxy_port)
    problems += settings.header_problems({name: value for name, value in merged.items() if name.endswith(IN_HEADERS)})
    problems += [*problems_of(config, merged), *settings.redis_problems(config.redis_url, config.redis_hosts)]
    if problems:
        raise ConfigError(environment, problems)
    config._environ.update(merged)  # noqa: SLF001 - filled once, here
    config._warnings.extend(warnings)  # noqa: SLF001 - filled once, here
    return config


def load_prepared() -> Config:
    """The settings for a process that serves or maintains.

    In development and test, secrets that nobody set are made once and kept in the instance folder, readable by its
    owner only. Staging and production never make any: two hosts would make different ones.

    Raises:
        ConfigError: see `load`.
    """
    config = load()
    needed = (config.secret_key, config.key_pepper, config.encryption_keys, config.api_auth_tokens)
    try:
        config.instance_path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=config.instance_path).close()
        return config if config.is_strict or all(needed) else _with_secrets(config)
    except OSError as exc:
        problem = (
            f"INSTANCE_PATH: `{config.instance_path}` cannot be written ({exc.strerror}). Fix: name another folder"
        )
        raise ConfigError(config.environment, [problem]) from exc


def _with_secrets(config: Config) -> Config:
    made = {
        "SECRET_KEY": config.secret_key or secrets.token_urlsafe(48),
        "KEY_PEPPER": config.key_pepper or secrets.token_urlsafe(48),
        "ENCRYPTION_KEYS": ",".join(config.encryption_keys) or Fernet.generate_key().decode(),
        "API_AUTH_TOKENS": ",".join(config.api_auth_tokens) or f"dev_{secrets.token_urlsafe(16)}",
    }
    settings.keep_secrets(config.instance_path / SECRETS_FILE, made)
    return load()


def project() -> tuple[str, str]:
    """Name and version, from pyproject.toml alone.

    Raises:
        ConfigError: the file or one of the two is missing.
    """
    try:
        table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(table["name"]), str(table["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError) as exc:
        fix = "pyproject.toml must stand beside app.py and name `project.name` and `project.version`"
        raise ConfigError("any", [fix]) from exc


def _merged(environ: Mapping[str, str], root: Path) -> dict[str, str]:
    """All sources as one mapping; an empty value counts as unset, so that `NAME=` in a file is harmless."""
    given = {**dotenv_values(root / ".env"), **environ}
    merged = {
        name: value for name, value in given.items() if value or (name == "INITIAL_TOKEN_BALANCE" and value is not None)
    }
    merged.setdefault("INSTANCE_PATH", str(root / "instance"))
    if not is_strict(merged):
        also = {marks(field)["env"]: marks(field)["also"] for field in Config.model_fields.values()}
        for name, value in dotenv_values(Path(merged["INSTANCE_PATH"]) / SECRETS_FILE).items():
            if value and not any(given in merged for given in (name, f"{name}_FILE", *also.get(name, ()))):
                merged[name] = value
    return merged
