"""What the product does. Nothing in here knows the web framework; `Gateway` holds the collaborators of one app."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from config import Config, project
from services import alerting, control, signon
from services.accounting import Accounting
from services.accounts import Accounts, Rules
from services.addresses import AddressRules
from services.admins import Admins
from services.audit import Audit
from services.backend import SignIns
from services.batchrunner import EVERY_S, Runner, Tools
from services.bodies import Bodies
from services.books.base import Books
from services.books.patience import overwrite_deleted, wait_in_turn
from services.books.sqlite import SqliteBooks
from services.callers import Callers
from services.callroutes import CallRoutes
from services.catalog import Catalog
from services.checks import Checks
from services.components import Components, limits_elsewhere
from services.credentials import Sealer
from services.discovery import Discovery
from services.erasure import Erasure
from services.events import Events
from services.exchange import Patience
from services.gauges import Gauges
from services.guards.judging import Judging
from services.health import Health
from services.housekeeping import Housekeeper, Job
from services.identities import Identities
from services.identities import Rules as IdentityRules
from services.keymanagement import KeyManagement
from services.keys import Keys
from services.layers import Layers, of_settings
from services.leases import Leases
from services.members import Members
from services.metrics import Metrics
from services.modelbook import ModelBook
from services.openid import OpenId
from services.outlets import Outlets
from services.outside import Outside
from services.outsiders import Joining, Outsiders
from services.ownkeys import OwnKeys
from services.people import People
from services.pipeline import Pipeline, Policy
from services.providers import WIRES, echo
from services.providersettings import ProviderSettings
from services.raises import Raises
from services.redaction import Redaction
from services.refusals import Refusals
from services.responses import Responses
from services.retention import Retention
from services.rollups import Rollups
from services.rowqueue import RowQueue
from services.secondfactors import SecondFactors
from services.shedding import Shedding
from services.spool import Spool
from services.systemconfig import SystemConfigs
from services.takeout import Takeout
from services.throttle import Throttle
from services.tokens import Tokens
from services.topups import TopUps
from services.transport import Transport
from services.usermanagement import UserManagement
from services.watch import Watch
from services.webhooks import Webhooks
from utils import clock, settings

if TYPE_CHECKING:
    from services.remote import Remote

SQLITE_WAIT_S = 5.0  # a page's change, while others are written; the calls of clients have a queue of their own
REMOTE_TIMEOUT_S = 0.1  # that long a call waits for Valkey or Redis, once, before it is counted in the database
DRAIN_MARGIN_S = 3.0  # streams are ended this long before the server would kill the worker
FORGET_S = 2 * 86_400  # counters of limits are kept that long after their period, which the next one may need
HOLD_MARGIN_S = 60.0  # a hold outlives the longest call by this much, then a sweeper takes it for dead


@dataclass(frozen=True, slots=True)
class Gateway:
    """Built once per app, before any fork; nothing in it has a connection, file or thread until it is used."""

    config: Config
    engine: Engine
    sealer: Sealer
    keys: Keys
    catalog: Catalog
    accounts: Accounts
    callers: Callers
    audit: Audit
    books: Books
    accounting: Accounting
    spool: Spool
    transport: Transport
    discovery: Discovery
    checks: Checks
    watch: Watch
    shedding: Shedding
    layers: Layers
    health: Health
    pipeline: Pipeline
    housekeeper: Housekeeper
    admins: Admins
    key_management: KeyManagement
    user_management: UserManagement
    people: People
    outsiders: Outsiders
    sign_ins: SignIns
    models: ModelBook
    provider_settings: ProviderSettings
    call_routes: CallRoutes
    responses: Responses
    bodies: Bodies
    refusals: Refusals
    retention: Retention
    erasure: Erasure
    takeout: Takeout
    events: Events
    webhooks: Webhooks
    members: Members
    own_keys: OwnKeys
    raises: Raises
    top_ups: TopUps
    system_configs: SystemConfigs
    openid: OpenId | None  # whom people may sign in with besides their password here
    identities: Identities
    second_factors: SecondFactors
    metrics: Metrics
    outlets: Outlets
    gauges: Gauges
    components: Components
    remote: "Remote | None"  # where limits are counted, if not in the database
    alerts: alerting.Alerting
    control: control.Control
    batch_runner: Runner

    def start_worker(self) -> None:
        """Begin what goes on beside the calls; once in each process that serves."""
        self.housekeeper.start()

    def drain(self, within_s: float | None = None) -> None:
        """The worker was told to end: streams may go on that long, by default until shortly before it is killed."""
        self.accounting.drain()
        longest_s = max(0.0, self.config.graceful_timeout_s - DRAIN_MARGIN_S)
        self.watch.drain(longest_s if within_s is None else within_s)

    def close(self) -> None:
        """Leave nothing open; after the last call."""
        self.housekeeper.stop()
        self.batch_runner.close(self.config.graceful_timeout_s)
        self.watch.close()
        self.webhooks.close()
        self.alerts.post.close()
        self.accounting.close()
        with suppress(SQLAlchemyError):  # moments of last use are not worth staying for
            self.keys.flush_used()
        self.bodies.flush()
        with suppress(OSError):  # they are not worth failing for
            self.metrics.flush()
        self.outlets.close()
        self.refusals.flush()
        self.spool.close()
        self.transport.close()
        self.books.close()
        if self.remote is not None:
            self.remote.catch_up()
            self.remote.close()


def build(config: Config, engine: Engine) -> Gateway:
    """The collaborators, wired."""
    sealer = Sealer(config.encryption_keys)
    keys = Keys(engine, (config.key_pepper, *config.key_peppers_previous), sealer)
    catalog = Catalog(engine, sealer, interval_s=min(config.refresh_interval_s, 2.0))
    patience = Patience(config.connect_timeout_s, config.llm_timeout_s, config.proxy_timeout_s)
    rules = AddressRules(allow_private=not config.is_strict, allowed=config.allow_private_upstreams)
    transport = Transport(rules, patience, {"echo": echo.respond})
    books, remote = _books(config, engine), _remote(config)
    spool = Spool(config.instance_path / "spool")
    hold_s = config.proxy_timeout_s + HOLD_MARGIN_S
    accounting = Accounting(books, spool, hold_s=hold_s, remote=remote, **_late(config, books, spool, hold_s))
    tokens = Tokens(transport)
    discovery = Discovery(engine, sealer, transport, WIRES, tokens)
    watch, health = Watch(config.proxy_timeout_s), Health()
    chosen = (config.refuses_unpriced, config.default_max_output_tokens, config.sse_keepalive_s)
    policy = Policy(*chosen, patience, config.llm_max_retries)
    accounts = Accounts(
        engine,
        catalog,
        keys,
        Rules(
            (config.secret_key, *config.secret_keys_previous),
            config.algorithm,
            config.jwt_audience,
            config.jwt_issuer,
            config.access_token_minutes,
            config.initial_token_balance,
            config.default_token_limit,
            config.login_returns_api_key,
            config.is_strict,
        ),
    )
    responses = Responses(engine, sealer, retention_days=config.responses_retention_days)
    redaction = Redaction(config.secrets, config.redact_patterns)
    bodies = Bodies(engine, sealer, redaction, retention_days=config.bodies_retention_days)
    retention = Retention.of(engine, config)
    erasure, refusals = Erasure(engine, catalog), Refusals(engine)
    metrics = Metrics(config.instance_path / "metrics")
    outlets = Outlets(config, metrics)
    controls = control.build(config, engine, catalog, (books, sealer, accounting, metrics, bodies))
    alerts = alerting.build(config, (engine, sealer, rules, catalog), health, accounting, spool)
    per_window = config.rate_limit_requests or (100 if config.rate_limit_enabled else None)
    layers = Layers(
        catalog,
        of_settings(
            config.rate_limit_per_minute,
            None if config.rate_limit_enabled is False else per_window,
            config.rate_limit_window_s,
        ),
    )
    pipeline = Pipeline(
        *(catalog, accounting, tokens, spool, watch, WIRES, discovery, layers, health, policy),
        *(outlets.settled, controls.cache, Judging(config.policy_judge_model, config.policy_judge_timeout_s)),
    )
    outsiders = Outsiders(
        engine, Joining(config.outside_create_users, config.initial_token_balance, config.default_token_limit)
    )
    outside = Outside(catalog, outsiders, signon.trust(config, transport))
    callers, audit = Callers(catalog, keys, accounts, outside, is_strict=config.is_strict), Audit(engine)
    shed, events = Shedding.of(config), Events()
    webhooks = Webhooks(rules, config.webhook_urls, config.webhook_secret)
    batch_runner = control.runner(
        *(
            config,
            controls,
            Tools(catalog, pipeline, callers, responses, bodies, watch, shed, controls.prompts, refusals),
        ),
        *(engine, sealer),
    )
    housekeeper = Housekeeper(
        [
            Job("replay", 1.0, accounting.replay),
            Job("sweep", 2.0, accounting.sweep),
            Job("last use", 10.0, keys.flush_used),
            Job("discovery", 10.0, lambda: discovery.ask_due(config.discovery_interval_s), is_slow=True),
            Job("metrics", 1.0, metrics.flush),
            Job("idle connections", 15.0, transport.prune),
            Job("tidy", 300.0, accounts.tidy),
            Job("retired secrets", 300.0, keys.forget_retired),
            Job("ended answers", 300.0, responses.forget_ended),
            Job("texts", 1.0, bodies.flush, is_slow=True),
            Job("refusals", 1.0, refusals.flush, is_slow=True),
            Job("retention", 3600.0, retention.run, is_slow=True),
            Job("roll-ups", 5.0, Rollups(engine).fold, is_slow=True),
            Job("erased", 60.0, erasure.finish, is_slow=True),
            Job("counters", 300.0, lambda: books.forget_windows(int(clock.now_s()) - FORGET_S)),
            *outlets.jobs,
            *alerts.jobs,
            *controls.jobs,
            *([Job("batches", EVERY_S, batch_runner.look, is_slow=True)] if config.batch_concurrency else []),
            *([Job("limits elsewhere", 1.0, remote.catch_up)] if remote is not None else []),
        ]
    )
    if config.webhook_urls:
        events.listen(webhooks.take)
    events.listen(metrics.happened)
    admins = Admins(callers, Throttle(engine), audit, admin_pass=config.admin_pass, is_strict=config.is_strict)
    return Gateway(
        config,
        engine,
        sealer,
        keys,
        catalog,
        accounts,
        callers,
        audit,
        books,
        accounting,
        spool,
        transport,
        discovery,
        Checks(engine, sealer, transport, WIRES, tokens),
        watch,
        shed,
        layers,
        health,
        pipeline,
        housekeeper,
        admins,
        KeyManagement(engine, catalog, keys, is_strict=config.is_strict),
        UserManagement(engine, catalog),
        People(engine, catalog, accounts),
        outsiders,
        SignIns(accounts, outsiders, signon.back_end(config, transport)),
        ModelBook(engine, catalog, sealer),
        ProviderSettings(engine, sealer, discovery, {"openai": config.openai_base_url}, catalog),
        CallRoutes(engine, catalog),
        responses,
        bodies,
        refusals,
        retention,
        erasure,
        Takeout(engine, bodies),
        events,
        webhooks,
        Members(engine, catalog, keys),
        OwnKeys(engine, catalog, keys),
        Raises(engine, catalog),
        TopUps(engine, catalog, Throttle(engine)),
        SystemConfigs(engine, sealer),
        signon.openid(config, rules),
        Identities(
            engine,
            catalog,
            IdentityRules(
                config.oidc_roles, config.oidc_create_users, config.initial_token_balance, config.default_token_limit
            ),
        ),
        SecondFactors(engine, sealer, Throttle(engine), required=config.require_second_factor),
        metrics,
        outlets,
        Gauges(engine),
        Components(
            engine,
            accounting,
            health,
            watch,
            config.instance_path,
            project()[1],
            [limits_elsewhere(remote.check)] if remote is not None else [],
        ),
        remote,
        alerts,
        controls,
        batch_runner,
    )


def _late(config: Config, books: Books, spool: Spool, hold_s: float) -> dict[str, Any]:
    """What books many calls at once; in a SQLite file each is booked faster than a worker can ask."""
    if isinstance(books, SqliteBooks):
        return {}
    calls_per_s = config.lease_calls_per_s / config.web_concurrency
    return {
        "leases": Leases(books, spool, calls_per_s=calls_per_s, longest_s=hold_s),
        "rows": RowQueue(books, spool, calls_per_s=calls_per_s),
    }


def _books(config: Config, engine: Engine) -> Books:
    if engine.dialect.name == "sqlite":
        wait_in_turn(engine, SQLITE_WAIT_S)
        overwrite_deleted(engine)
        return SqliteBooks(str(engine.url.database), synchronous=config.sqlite_synchronous)
    from services.books.postgres import PostgresBooks  # noqa: PLC0415 - its driver takes 9 MB, which SQLite saves

    return PostgresBooks.of_engine(
        engine,
        pool_size=config.db_pool_size,
        statement_timeout_s=config.postgresql_read_timeout_s,
        lock_timeout_s=config.postgresql_write_timeout_s,
        is_pooled=config.db_pooling == "transaction",
    )


def _remote(config: Config) -> "Remote | None":
    url = settings.redis_url(config.redis_url, config.redis_hosts, config.redis_port, config.redis_password)
    if not url:
        return None
    from services.remote import Remote  # noqa: PLC0415 - its client takes 20 MB, which most save

    return Remote(
        url,
        space=hashlib.sha256(f"limits {config.key_pepper}".encode()).hexdigest()[:8],
        timeout_s=min(
            config.redis_read_timeout_s or REMOTE_TIMEOUT_S,
            config.redis_write_timeout_s or REMOTE_TIMEOUT_S,
            REMOTE_TIMEOUT_S,
        ),
    )
