"""What every start makes sure of, once for all workers and however often: built-in rows, first admin, first key.

Runs after the migrations, in a process of its own. A second run changes nothing and shows no secret again. The admin
and the key come last: what is shown once must not be made by a start that then fails and shows nothing.
"""

import secrets
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from config import MIN_PASSWORD, Config
from models import ApiKey, Deployment, Model, Price, Provider, User
from services import audit, configapply, peppers
from services.accounts import SERVICE_ACCOUNT, Accounts
from services.configapply import Changes
from services.credentials import Sealer
from services.discovery import Discovery
from services.keys import Keys
from services.pricing import FREE
from services.providers.echo import SCENARIOS
from services.providers.kinds import KINDS
from services.providers.vendors import VENDORS
from utils import settings

FIRST_KEY: Final = "first key"
ECHO_OWNER: Final = "tollhouse"
SYSTEM: Final = audit.Actor(audit.SYSTEM)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A provider that the environment names."""

    kind: str
    base_url: str
    credential: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    lists_models: bool = True

    @property
    def discover(self) -> bool:
        """Whether it offers every model that it lists."""
        return self.lists_models and KINDS[self.kind].lists_models

    def completed(self) -> "Wanted":
        """With the address of its kind, if it has none of its own."""
        return replace(self, base_url=KINDS[self.kind].address(self.base_url))


@dataclass(slots=True)
class Report:
    """What a start made, for the screen; secrets are shown here and nowhere else."""

    admin_name: str = ""  # empty: there is none
    admin_password: str = ""  # only when it was made up now
    api_key: str = ""  # only when it was made now
    changes: Changes | None = None
    discovery: tuple[str, ...] = ()


def run(engine: Engine, config: Config, accounts: Accounts, keys: Keys, sealer: Sealer, discovery: Discovery) -> Report:
    """Make sure of everything; see the module.

    Raises:
        ConfigFileError: the configuration file cannot be applied; no admin and no key were made.
    """
    report = Report()
    with Session(engine) as session, session.begin():
        _ensure_echo(session, enabled=config.has_echo)
        _ensure_providers(session, config, sealer)
        _ensure_tokens(session, config, keys)
    if config.config_file is not None:
        report.changes = configapply.apply(engine, sealer, config.config_file, config.environ, SYSTEM)
    discovery.ask_due(0)
    with Session(engine) as session:
        failed = select(Provider.name, Provider.discovery_error).where(
            Provider.discover, Provider.discovery_error.is_not(None)
        )
        report.discovery = tuple(f"{name}: {problem}" for name, problem in session.execute(failed))
    _ensure_admin(engine, config, accounts, keys, report)
    return report


def _ensure_echo(session: Session, *, enabled: bool) -> None:
    provider = _provider(session, "echo", kind="echo", base_url="echo:", settings={})
    provider.is_enabled = enabled
    session.flush()
    known = set(session.scalars(select(Model.name).where(Model.name.in_([*SCENARIOS, "echo-embedding"]))))
    for name in [*SCENARIOS, "echo-embedding"]:
        if name not in known:
            session.add(
                Model(
                    name=name,
                    owned_by=ECHO_OWNER,
                    managed_by="environment",
                    fallbacks=[],
                    deployments=[Deployment(provider_id=provider.id, upstream_model=name)],
                    prices=[Price(is_free=True, input_rate=0, output_rate=0, source=FREE.source)],
                )
            )


def _ensure_providers(session: Session, config: Config, sealer: Sealer) -> None:
    """The providers that the environment names; their rows follow it."""
    found = wanted(config)
    for name, one in found.items():
        row = _provider(session, name, kind=one.kind, base_url=one.base_url, settings=one.settings)
        if row.managed_by != "environment":
            continue  # people took the name; theirs stays as it is
        row.discover, row.is_enabled = one.discover, True
        stored = sealer.open(row.credential) if row.credential is not None else ""
        if stored != one.credential:
            row.credential = sealer.seal(one.credential)
    for row in session.scalars(select(Provider).where(Provider.managed_by == "environment", Provider.kind != "echo")):
        if row.name not in found:
            row.is_enabled = False


def wanted(config: Config) -> dict[str, Wanted]:
    """The providers that the environment names, by the name they get."""
    found = {}
    if config.openai_api_key:
        settings_ = _given(organization=config.openai_org_id)
        found["openai"] = Wanted("openai", config.openai_base_url, config.openai_api_key, settings_)
    if config.ollama_base_url:
        found["ollama"] = Wanted("ollama", config.ollama_base_url)
    if config.anthropic_api_key:
        found["anthropic"] = Wanted("anthropic", config.anthropic_base_url, config.anthropic_api_key)
    if config.gemini_api_key:
        found["gemini"] = Wanted("gemini", config.gemini_base_url, config.gemini_api_key)
    if config.azure_openai_endpoint and config.azure_openai_api_key:
        settings_ = _given(api_version=config.azure_openai_api_version)
        found["azure"] = Wanted("azure", config.azure_openai_endpoint, config.azure_openai_api_key, settings_)
    if config.gigachat_auth_key:
        own = _given(scope=config.gigachat_scope, auth_url=config.gigachat_auth_url, ca_file=config.gigachat_ca_file)
        found["gigachat"] = Wanted("gigachat", config.gigachat_base_url, config.gigachat_auth_key, own)
    for name, vendor in VENDORS.items():
        if key := getattr(config, f"{name}_api_key", ""):
            lists = vendor.settings.get("lists_models", True)
            found[name] = Wanted("openai", vendor.base_url, key, lists_models=lists)
    return {name: one.completed() for name, one in found.items() if one.kind in KINDS}


def _given(**settings_: str) -> dict[str, Any]:
    return {name: value for name, value in settings_.items() if value}


def _provider(session: Session, name: str, *, kind: str, base_url: str, settings: dict[str, Any]) -> Provider:
    row = session.scalar(select(Provider).where(Provider.name == name))
    if row is None:
        row = Provider(name=name, kind=kind, base_url=base_url, settings=settings, managed_by="environment")
        session.add(row)
    elif row.managed_by == "environment":
        row.kind, row.base_url, row.settings = kind, base_url, settings
    return row


def _ensure_tokens(session: Session, config: Config, keys: Keys) -> None:
    """API_AUTH_TOKENS as keys of the service account; one that left the list is revoked."""
    user = session.scalar(select(User).where(User.username == SERVICE_ACCOUNT))
    if user is None:
        user = User(username=SERVICE_ACCOUNT, password_hash=None)
        session.add(user)
        session.flush()
    wanted = {keys.digest(token): token for token in config.api_auth_tokens}
    for digest, token in wanted.items():
        peppers.move(session, keys.former_digests(token), digest, keys.pepper)
    if not config.key_peppers_previous:
        peppers.mark(session, keys.pepper)
    present = {key.digest: key for key in session.scalars(select(ApiKey).where(ApiKey.kind == "environment"))}
    for digest, key in present.items():
        if digest in wanted:
            key.revoked_at = key.revoked_reason = None
        elif key.revoked_at is None:
            keys.revoke(session, key.id, "no longer in API_AUTH_TOKENS")
    for digest, token in wanted.items():
        if digest not in present:
            keys.issue(session, user.id, "API_AUTH_TOKENS", kind="environment", secret=token)


def _ensure_admin(engine: Engine, config: Config, accounts: Accounts, keys: Keys, report: Report) -> None:
    """The first admin and a first key, unless there is an admin; strict environments need a password given."""
    with Session(engine) as session:
        admins = session.scalars(select(User.username).where(User.role == "admin").order_by(User.id)).all()
    if admins or (config.is_strict and not config.default_admin_password):
        name = config.default_admin_username
        report.admin_name = name if name in admins else next(iter(admins), "")
        return
    report.admin_name = config.default_admin_username
    password = config.default_admin_password or secrets.token_urlsafe(12)
    is_weak = settings.is_weak(password, MIN_PASSWORD)
    user_id = accounts.create(config.default_admin_username, password, role="admin", must_change_password=is_weak)
    if not config.default_admin_password:
        report.admin_password = password
    with Session(engine) as session, session.begin():
        if not config.is_strict:  # what a start prints is in the journal for good
            report.api_key = keys.issue(session, user_id, FIRST_KEY).secret
        audit.note(session, SYSTEM, "user_create", "user", config.default_admin_username, {"role": "admin"})
