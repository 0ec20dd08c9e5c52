"""What the versions of a stored prompt were used for in the last 30 days: one statement along one index."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import BigInteger, Engine, case, func, select, type_coerce
from sqlalchemy.orm import Session

from models import UsageRecord
from models_books import OF_PROMPTS
from models_prompts import Prompt, PromptVersion
from services.reports import FINE, request_ids_from
from utils import clock

DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Use:
    """Sums of one version."""

    version: int
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int


def of_prompt(engine: Engine, uuid: str) -> list[Use]:
    """The use of each version that was used, the newest first."""
    row, number = UsageRecord, PromptVersion.number
    amounts = (row.input_tokens, row.output_tokens, row.cost_nanousd)
    sums = (type_coerce(func.coalesce(func.sum(amount), 0), BigInteger) for amount in amounts)
    failed = func.sum(case((row.outcome.in_(FINE), 0), else_=1))
    since = request_ids_from(clock.now_ms() - int(timedelta(days=DAYS).total_seconds() * 1000))
    query = (
        select(number, func.count(), failed, *sums)
        .select_from(PromptVersion)
        .join(Prompt, Prompt.id == PromptVersion.prompt_id)
        .join(row, row.prompt_version_id == PromptVersion.id)
        .where(Prompt.uuid == uuid, OF_PROMPTS, row.request_id >= since)
        .group_by(number)
        .order_by(number.desc())
    )
    with Session(engine) as session:
        return [Use(*map(int, found)) for found in session.execute(query).tuples()]
