"""Alerts of one gateway, wired: what looks for them and what sends them, and their jobs of the housekeeper."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from config import Config
from services.accounting import Accounting
from services.addresses import AddressRules
from services.alertpost import AlertPost
from services.alerttargets import forget_former
from services.alertwatch import LOOK_S, AlertWatch, Thresholds
from services.catalog import Catalog
from services.credentials import Sealer
from services.health import Down, Health
from services.housekeeping import Job
from services.mail import Server
from services.spool import Spool

SEND_S = 1.0


@dataclass(frozen=True, slots=True)
class Alerting:
    """Both, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    watch: AlertWatch
    post: AlertPost
    jobs: tuple[Job, ...]


def build(
    config: Config,
    parts: tuple[Engine, Sealer, AddressRules, Catalog],
    health: Health,
    accounting: Accounting,
    spool: Spool,
) -> Alerting:
    """Wired to what the gateway has already."""
    engine, sealer, rules, catalog = parts
    thresholds = Thresholds(
        config.alert_key_days,
        config.alert_error_rate,
        config.alert_error_calls,
        config.alert_error_window_s,
        config.alert_spool_s,
        config.alert_repeat_s,
    )
    server = Server(
        config.smtp_host,
        config.smtp_port,
        config.smtp_user,
        config.smtp_password,
        config.smtp_security,
        config.smtp_from,
        config.smtp_ca_file,
    )
    watch = AlertWatch(
        engine,
        thresholds,
        down=partial(_down, catalog, health),
        waiting=lambda: accounting.waiting,
        place=lambda: spool.place,
    )
    post = AlertPost(engine, sealer, rules, server)
    jobs = (
        Job("alerts noticed", LOOK_S, watch.look, is_slow=True),
        Job("alerts sent", SEND_S, post.send_due, is_slow=True),
        Job("former secrets of alerts", 300.0, lambda: forget_former(engine)),
    )
    return Alerting(watch, post, jobs)


def _down(catalog: Catalog, health: Health) -> Sequence[Down]:
    return health.down(one for model in catalog.snapshot().models.values() for one in model.deployments)
