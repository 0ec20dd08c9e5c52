"""What is wrong with settings that are well-formed one by one, and what deserves a warning only. See config.py."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, MultiFernet

from utils import settings

if TYPE_CHECKING:
    from config import Config

ENVIRONMENTS: Final = ("development", "test", "staging", "production")
SECRETS_FILE: Final = "secrets.env"
MIN_TOKEN: Final = 16
MIN_PASSWORD: Final = 12
OTLP: Final = "opentelemetry.proto"  # a package of requirements-otel.txt
OIDC_CALLBACK: Final = "/admin/openid/callback"
MAILBOX: Final = re.compile(r"[^@\s<>,;]{1,64}@[^@\s<>,;]{1,255}")
REQUIRED: Final = ("API_AUTH_TOKENS", "HOST", "PORT", "LOG_LEVEL", "RATE_LIMIT_PER_MINUTE")


def corrected(merged: dict[str, str]) -> list[str]:
    """Mend in place what only deserves a warning; returns the warnings."""
    warnings = []
    if (environment := merged.get("ENVIRONMENT", "development")) not in ENVIRONMENTS:
        warnings.append(f"ENVIRONMENT `{environment}` is none of {', '.join(ENVIRONMENTS)}: taken as development.")
        merged["ENVIRONMENT"] = "development"
    if "OPENAI_AI_KEY" in merged and "OPENAI_API_KEY" not in merged:
        warnings.append("OPENAI_AI_KEY is taken as OPENAI_API_KEY; please rename it.")
    if "VERSION" in merged:
        warnings.append("VERSION is ignored: the version stands in pyproject.toml.")
    if merged.get("ENVIRONMENT", "development") == "test" and "API_AUTH_TOKENS" not in merged:
        warnings.append("API_AUTH_TOKENS is not set: the fixed key `test_key` is accepted (test environment).")
        merged["API_AUTH_TOKENS"] = "test_key"
    shared = merged.get("JWT_SECRET") or merged.get("DJANGO_SECRET_KEY", "")
    if shared and len(shared) < settings.MIN_SECRET:
        warnings.append(
            f"JWT_SECRET is shorter than {settings.MIN_SECRET}: tokens that others sign with it are refused."
        )
    if not is_strict(merged):
        short = [token for token in str(merged.get("API_AUTH_TOKENS", "")).split(",") if len(token.strip()) < MIN_TOKEN]
        if "API_AUTH_TOKENS" in merged and short and merged["API_AUTH_TOKENS"] != "test_key":
            warnings.append(f"API_AUTH_TOKENS has tokens shorter than {MIN_TOKEN} characters; production refuses them.")
    return warnings


def is_strict(merged: Mapping[str, str]) -> bool:
    """Whether this is staging or production."""
    return merged.get("ENVIRONMENT") in ("staging", "production")


def problems_of(config: "Config", merged: Mapping[str, str]) -> list[str]:
    """The mistakes, one line each."""
    problems = []
    try:
        _ = config.database
    except ValueError as exc:
        problems.append(f"DATABASE_URL: {exc}. Fix: for example postgresql://user:password@host/tollhouse")
    try:
        MultiFernet([Fernet(key) for key in config.encryption_keys] or [Fernet(Fernet.generate_key())])
    except ValueError:
        problems.append("ENCRYPTION_KEYS: one is not a Fernet key. Fix: make one with `flask config new-key`")
    if config.is_strict or config.strict_config:
        problems += [
            f"{name}: required in '{config.environment}'. Fix: set it" for name in REQUIRED if name not in merged
        ]
    problems += [
        *_url_problems(config),
        *_sign_on_problems(config),
        *_webhook_problems(config),
        *_mail_problems(config),
        *_outside_problems(config),
        *_trace_problems(config),
    ]
    if any(not settings.TOKEN.fullmatch(token) for token in config.api_auth_tokens):
        problems.append("API_AUTH_TOKENS: a token may have letters, digits, `_`, `-` and `.`. Fix: choose another one")
    return problems + _secret_problems(config)


def _secret_problems(config: "Config") -> list[str]:
    """Secrets that are missing, weak or of another use."""
    problems: list[str] = []
    if config.is_strict:
        kept = config.instance_path / SECRETS_FILE
        weak = settings.weak_secrets(
            {"SECRET_KEY": config.secret_key, "KEY_PEPPER": config.key_pepper},
            config.api_auth_tokens,
            {"DEFAULT_ADMIN_PASSWORD": config.default_admin_password, "ADMIN_PASS": config.admin_pass},
            MIN_TOKEN,
            MIN_PASSWORD,
        )
        weak += [] if config.encryption_keys else ["ENCRYPTION_KEYS: missing. Fix: `flask config new-key`"]
        if weak and kept.exists():
            weak.append(f"{kept} is for development alone. Fix: to go on with its database, set its values yourself")
        problems = weak if not config.debug else [*weak, "DEBUG: must be off. Fix: remove it"]
    elif (
        config.default_admin_password
        and settings.is_weak(config.default_admin_password, MIN_PASSWORD)
        and not settings.is_loopback(config.host)
    ):
        problems.append(
            "DEFAULT_ADMIN_PASSWORD: a weak one is allowed only with HOST=127.0.0.1. Fix: choose a better one"
        )
    return problems


def _url_problems(config: "Config") -> list[str]:
    return settings.url_problems(
        OPENAI_BASE_URL=config.openai_base_url,
        OLLAMA_BASE_URL=config.ollama_base_url,
        ANTHROPIC_BASE_URL=config.anthropic_base_url,
        GEMINI_BASE_URL=config.gemini_base_url,
        AZURE_OPENAI_ENDPOINT=config.azure_openai_endpoint,
        GIGACHAT_BASE_URL=config.gigachat_base_url,
        GIGACHAT_AUTH_URL=config.gigachat_auth_url,
        OIDC_ISSUER=config.oidc_issuer,
        OIDC_REDIRECT_URL=config.oidc_redirect_url,
        JWT_JWKS_URL=config.jwt_jwks_url.partition("?")[0],
        BACKEND_AUTH_URL=config.backend_auth_url.partition("?")[0],
        BACKEND_USERS_URL=config.backend_users_url.partition("?")[0],
        OTEL_EXPORTER_OTLP_ENDPOINT=config.otel_endpoint,
    )


def _sign_on_problems(config: "Config") -> list[str]:
    if not config.oidc_issuer:
        return []
    problems = []
    if not config.oidc_client_id:
        problems.append("OIDC_CLIENT_ID: required with OIDC_ISSUER. Fix: the id that the provider gave this gateway")
    if "openid" not in config.oidc_scopes.split():
        problems.append("OIDC_SCOPES: `openid` is missing. Fix: for example `openid profile email`")
    if config.oidc_redirect_url and not config.oidc_redirect_url.endswith(OIDC_CALLBACK):
        problems.append(f"OIDC_REDIRECT_URL: must end with {OIDC_CALLBACK}. Fix: https://HOST{OIDC_CALLBACK}")
    return problems


def _webhook_problems(config: "Config") -> list[str]:
    found = [problem for url in config.webhook_urls for problem in settings.url_problems(WEBHOOK_URLS=url)]
    if config.webhook_urls and len(config.webhook_secret) < MIN_TOKEN:
        found.append(f"WEBHOOK_SECRET: {MIN_TOKEN} characters or more. Fix: `openssl rand -hex 32` makes one")
    if config.metrics_token and len(config.metrics_token) < MIN_TOKEN:
        found.append(f"METRICS_TOKEN: {MIN_TOKEN} characters or more. Fix: `openssl rand -hex 32` makes one")
    return found


def _mail_problems(config: "Config") -> list[str]:
    """What the mail server would refuse, or what would go over the net in the clear."""
    if not config.smtp_host:
        return []
    found = []
    if not MAILBOX.fullmatch(config.smtp_from):
        found.append("SMTP_FROM: required with SMTP_HOST. Fix: an address that the server takes, as alerts@example.com")
    if config.smtp_user and config.smtp_security == "none" and not settings.is_loopback(config.smtp_host):
        found.append("SMTP_SECURITY: `none` would send SMTP_PASSWORD in the clear. Fix: `starttls` or `tls`")
    return found


def _outside_problems(config: "Config") -> list[str]:
    """What would let strangers in, or keep everybody out."""
    problems = []
    if config.is_strict and config.jwt_jwks_url and "jwt_audience" not in config.model_fields_set:
        problems.append(
            "JWT_AUDIENCE: required with JWT_JWKS_URL, or a token that the issuer made for another service would open "
            "this one. Fix: the audience that the issuer writes into tokens for this gateway"
        )
    if config.is_strict and config.auth_backend == "http" and "backend_auth_url" not in config.model_fields_set:
        problems.append("BACKEND_AUTH_URL: required with AUTH_BACKEND=http. Fix: the address of the login service")
    if config.is_strict and config.shared_secret and settings.is_weak(config.shared_secret):
        problems.append(
            f"JWT_SECRET: well-known or shorter than {settings.MIN_SECRET}. Fix: a longer one, on both sides"
        )
    return problems


def _trace_problems(config: "Config") -> list[str]:
    """What traces need, where somebody wants them."""
    found = []
    if config.otel_endpoint and not _has_otlp():
        fix = "`pip install --require-hashes -r requirements-otel.txt`"
        found.append(f"OTEL_EXPORTER_OTLP_ENDPOINT: a package for it is missing. Fix: {fix}")
    if not all(name.strip() and sign for name, sign, _text in settings.members(config.otel_headers)):
        found.append("OTEL_EXPORTER_OTLP_HEADERS: not name=value,name=value. Fix: write a `,` within a value as %2C")
    return found


def _has_otlp() -> bool:
    try:
        return find_spec(OTLP) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False
