"""What has a say in what flows, wired: one part for each of the gateway's own rules about calls, and their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.housekeeping import Job
from services.policybook import PolicyBook


@dataclass(frozen=True, slots=True)
class Control:
    """The parts, of one worker. Nothing in it has a thread or a connection before its jobs run."""

    jobs: Sequence[Job]
    policies: PolicyBook


def build(policies: PolicyBook) -> Control:
    """Wired to what the gateway has already."""
    return Control((), policies)
