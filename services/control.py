"""What has a say in what flows, wired: one part for each of the gateway's own rules about calls, and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from services.bodies import Bodies
from services.callevents import CallEvents
from services.housekeeping import Job
from services.reporting import Reporting


@dataclass(frozen=True, slots=True)
class Control:
    """The parts, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    jobs: Sequence[Job]
    reporting: Reporting
    events: CallEvents


def build(engine: Engine, bodies: Bodies) -> Control:
    """Wired to what the gateway has already."""
    return Control((), Reporting(engine), CallEvents(engine, bodies))
