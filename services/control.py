"""What has a say in what flows, wired: one part for each of the gateway's own rules about calls, and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from config import Config
from services import batchcheck
from services.batchends import Ends
from services.batches import Batches
from services.batchfiles import Bounds, Files
from services.batchlines import Lines
from services.batchrunner import Runner, Store, Tools
from services.credentials import Sealer
from services.housekeeping import Job


@dataclass(frozen=True, slots=True)
class Control:
    """The parts, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    jobs: Sequence[Job]
    files: Files
    batches: Batches


def build(config: Config, engine: Engine, sealer: Sealer) -> Control:
    """Wired to what the gateway has already."""
    kept = timedelta(days=config.batches_retention_days) if config.batches_retention_days else None
    files = Files(engine, sealer, Bounds(config.batch_file_bytes, config.batch_user_bytes, kept))
    return Control([Job("ended files", 300.0, files.forget_ended)], files, Batches(engine, files))


def runner(config: Config, parts: Control, tools: Tools, engine: Engine, sealer: Sealer) -> Runner:
    """What makes the calls of batches: it needs the pipeline, which the parts above are built before."""
    store = Store(parts.files, Lines(engine, sealer), Ends(engine, parts.files.bounds.kept))
    bounds = batchcheck.Bounds(config.batch_max_lines, config.max_body_bytes)
    return Runner(store, tools, bounds, most=config.batch_concurrency)
