"""What has a say in what flows, wired: one part for each of the gateway's own rules about calls, and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from config import Config
from services import batchcheck, kept
from services.accounting import Accounting
from services.batchends import Ends
from services.batches import Batches
from services.batchfiles import Bounds, Files
from services.batchlines import Lines
from services.batchrunner import Runner, Store, Tools
from services.bodies import Bodies
from services.books.base import Books
from services.caching import Cache
from services.callevents import CallEvents
from services.catalog import Catalog
from services.credentials import Sealer
from services.housekeeping import Job
from services.metrics import Metrics
from services.policybook import PolicyBook
from services.promptbook import PromptBook
from services.promptrows import PromptRows
from services.repeats import Repeats
from services.reporting import Reporting

SHRINK_S = 30.0


@dataclass(frozen=True, slots=True)
class Control:
    """The parts, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    cache: Cache
    repeats: Repeats
    policies: PolicyBook
    jobs: Sequence[Job]
    files: Files
    batches: Batches
    reporting: Reporting
    events: CallEvents
    prompts: PromptBook
    prompt_rows: PromptRows


def build(
    config: Config, engine: Engine, catalog: Catalog, parts: tuple[Books, Sealer, Accounting, Metrics, Bodies]
) -> Control:
    """Wired to what the gateway has already."""
    books, sealer, accounting, metrics, bodies = parts
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
        looked_up=metrics.looked_up,
    )
    repeats = Repeats(shelf, config.key_pepper, wait_s=config.kept_wait_s, kept_s=config.idempotency_s)
    kept_for = timedelta(days=config.batches_retention_days) if config.batches_retention_days else None
    files = Files(engine, sealer, Bounds(config.batch_file_bytes, config.batch_user_bytes, kept_for))
    jobs = (
        Job("claims", kept.RENEW_S, shelf.renew),
        Job("room", SHRINK_S, shelf.shrink, is_slow=True),
        Job("ended files", 300.0, files.forget_ended),
    )
    return Control(
        cache,
        repeats,
        PolicyBook(engine, catalog),
        jobs,
        files,
        Batches(engine, files),
        Reporting(engine),
        CallEvents(engine, bodies),
        PromptBook(engine, catalog),
        PromptRows(engine, catalog),
    )


def runner(config: Config, parts: Control, tools: Tools, engine: Engine, sealer: Sealer) -> Runner:
    """What makes the calls of batches: it needs the pipeline, which the parts above are built before."""
    store = Store(parts.files, Lines(engine, sealer), Ends(engine, parts.files.bounds.kept))
    bounds = batchcheck.Bounds(config.batch_max_lines, config.max_body_bytes)
    return Runner(store, tools, bounds, most=config.batch_concurrency)
