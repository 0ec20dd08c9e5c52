"""How far a new gateway has come, read from what is there: nothing is remembered that could be wrong later."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, exists, or_, select, true

from models import ApiKey, AuditEntry, Deployment, Model, Provider, UsageRecord
from services.bootstrap import FIRST_KEY

BUILT_IN: Final = "echo"  # the kind of provider that every gateway has
OF_A_SETTING: Final = "environment"  # the kind of keys that nobody made
CHANGED: Final = "password_change"  # as the audit log calls it


@dataclass(frozen=True, slots=True)
class Progress:
    """What is there. `password`: the first admin's is not the one that the start printed."""

    provider: bool
    model: bool
    key: bool
    call: bool
    password: bool

    @property
    def done(self) -> int:
        """How many steps are done."""
        return sum((self.password, self.provider, self.model, self.key, self.call))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done == STEPS


STEPS: Final = 5


def progress(engine: Engine, printed_for: str | None = None) -> Progress:
    """What is there, in one statement. `printed_for`: the admin whose password the first start made and printed.

    A model counts where a provider that is not built in serves it; the key that the first start made once it was used,
    for whoever sees the panel may never have seen its secret.
    """
    own = (Provider.kind != BUILT_IN, Provider.is_enabled)
    served = exists(
        select(Deployment.id).join(Provider).join(Model).where(*own, Deployment.is_enabled, Model.is_enabled)
    )
    known = or_(ApiKey.name != FIRST_KEY, ApiKey.last_used_at.is_not(None))
    key = exists(select(ApiKey.id).where(ApiKey.kind != OF_A_SETTING, ApiKey.revoked_at.is_(None), known))
    changed = select(AuditEntry.id).where(AuditEntry.action == CHANGED, AuditEntry.resource_id == printed_for)
    password = exists(changed) if printed_for is not None else true()
    query = select(exists(select(Provider.id).where(*own)), served, key, exists(select(UsageRecord.id)), password)
    with engine.connect() as connection:
        return Progress(*(bool(found) for found in connection.execute(query).one()))
