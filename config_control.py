"""The settings of what the gateway does with calls besides relaying them; config.py has all others."""

from typing import Annotated

from pydantic import BaseModel, Field

from config_fields import Count, Days
from config_fields import setting as _


class ControlSettings(BaseModel):
    """A table, as in config.py."""

    # fmt: off
    batch_concurrency: Annotated[int, Field(ge=0, le=256)] = _("BATCH_CONCURRENCY", 8, "Lines of batches that each worker process has under way at once ([batches.md](batches.md)); 0: it makes none.", group="Batches")
    batch_max_lines: Annotated[int, Field(ge=1, le=1_000_000)] = _("BATCH_MAX_LINES", 50_000, "Lines that the file of a batch may have.")
    batch_file_bytes: Count = _("BATCH_FILE_BYTES", 200 * 1024 * 1024, "Largest file that may be uploaded; larger ones get 413. It stands in the database, sealed with `ENCRYPTION_KEYS`.")
    batch_user_bytes: Count = _("BATCH_USER_BYTES", 2 * 1024 * 1024 * 1024, "What the uploaded files of one user may have together.")
    batches_retention_days: Days = _("BATCHES_RETENTION_DAYS", 30, "Days that files, batches and their results are kept; 0 = until they are deleted.")
    # fmt: on
