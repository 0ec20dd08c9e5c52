"""What has a say in what flows, wired: one part for each of the gateway's own rules about calls, and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from config import Config
from services import kept
from services.accounting import Accounting
from services.books.base import Books
from services.caching import Cache
from services.catalog import Catalog
from services.credentials import Sealer
from services.housekeeping import Job
from services.metrics import Metrics
from services.policybook import PolicyBook
from services.repeats import Repeats

SHRINK_S = 30.0


@dataclass(frozen=True, slots=True)
class Control:
    """The parts, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    cache: Cache
    repeats: Repeats
    policies: PolicyBook
    jobs: Sequence[Job]


def build(
    config: Config, engine: Engine, catalog: Catalog, parts: tuple[Books, Sealer, Accounting, Metrics]
) -> Control:
    """Wired to what the gateway has already."""
    books, sealer, accounting, metrics = parts
    waiting = config.kept_waiting
    if config.worker_class == "gthread":  # where a call that waits holds a thread
        waiting = min(waiting, max(1, config.threads // 2))
    shelf = kept.Shelf(books, sealer, kept.Bounds(config.kept_answer_bytes, config.kept_store_bytes, waiting))
    cache = Cache(
        shelf,
        accounting,
        config.key_pepper,
        wait_s=config.kept_wait_s,
        default_output_tokens=config.default_max_output_tokens,
        count=metrics.count,
    )
    repeats = Repeats(shelf, config.key_pepper, wait_s=config.kept_wait_s, kept_s=config.idempotency_s)
    jobs = (Job("claims", kept.RENEW_S, shelf.renew), Job("room", SHRINK_S, shelf.shrink, is_slow=True))
    return Control(cache, repeats, PolicyBook(engine, catalog), jobs)
