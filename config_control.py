"""The settings of what the gateway does with calls besides relaying them; config.py has all others."""

from typing import Annotated

from pydantic import BaseModel, Field

from config_fields import Count, Days, Seconds
from config_fields import setting as _


class ControlSettings(BaseModel):
    """A table, as in config.py."""

    # fmt: off
    policy_judge_model: str = _("POLICY_JUDGE_MODEL", "", "The model that is asked where a rule of a policy is judged by a model and names none ([policies.md](policies.md)).", group="Policies")
    policy_judge_timeout_s: Annotated[Seconds, Field(ge=1, le=300)] = _("POLICY_JUDGE_TIMEOUT", 10.0, "How long it may take to answer; then the rule fails as its policy says.")
    kept_answer_bytes: Annotated[int, Field(ge=1024, le=67_108_864)] = _("KEPT_ANSWER_BYTES", 2_097_152, "A larger answer is neither cached nor kept for a repeat with the same `Idempotency-Key` ([caching.md](caching.md)).", group="Kept answers")
    kept_store_bytes: Annotated[int, Field(ge=1_048_576)] = _("KEPT_STORE_BYTES", 268_435_456, "What all kept answers may take in the database; beyond that the oldest go, those of the cache first.")
    kept_waiting: Count = _("KEPT_WAITING", 64, "Calls of a worker that may wait for the answer of an equal one; with `gthread` half of `THREADS` at most.")
    kept_wait_s: Annotated[Seconds, Field(le=600)] = _("KEPT_WAIT", 30.0, "How long such a call waits; then it goes on by itself, or, with an `Idempotency-Key`, is told to come again.")
    idempotency_s: Annotated[Seconds, Field(ge=60, le=2_592_000)] = _("IDEMPOTENCY_TTL", 86_400.0, "How long the answer to a call with an `Idempotency-Key` is given again.")
    batch_concurrency: Annotated[int, Field(ge=0, le=256)] = _("BATCH_CONCURRENCY", 8, "Lines of batches that each worker process has under way at once ([batches.md](batches.md)); 0: it makes none.", group="Batches")
    batch_max_lines: Annotated[int, Field(ge=1, le=1_000_000)] = _("BATCH_MAX_LINES", 50_000, "Lines that the file of a batch may have.")
    batch_file_bytes: Count = _("BATCH_FILE_BYTES", 200 * 1024 * 1024, "Largest file that may be uploaded; larger ones get 413. It stands in the database, sealed with `ENCRYPTION_KEYS`.")
    batch_user_bytes: Count = _("BATCH_USER_BYTES", 2 * 1024 * 1024 * 1024, "What the uploaded files of one user may have together.")
    batches_retention_days: Days = _("BATCHES_RETENTION_DAYS", 30, "Days that files, batches and their results are kept; 0 = until they are deleted.")
    # fmt: on
