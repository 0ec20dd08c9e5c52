"""What has a say in what flows, wired: one part for each of the gateway's own rules about calls, and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from services.catalog import Catalog
from services.housekeeping import Job
from services.promptbook import PromptBook
from services.promptrows import PromptRows


@dataclass(frozen=True, slots=True)
class Control:
    """The parts, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    jobs: Sequence[Job]
    prompts: PromptBook
    prompt_rows: PromptRows


def build(engine: Engine, catalog: Catalog) -> Control:
    """Wired to what the gateway has already."""
    return Control((), PromptBook(engine, catalog), PromptRows(engine, catalog))
