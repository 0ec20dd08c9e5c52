"""What goes with a key or a user that is deleted. SQLite does not cascade by itself.

The books keep their rows: they know keys and users by number only, so a call that is under way settles as if
nothing had happened, and what was used stays explained.
"""

from typing import Any, Final

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from models import (
    Agent,
    ApiKey,
    Dialog,
    Identity,
    Message,
    RaiseRequest,
    RetiredSecret,
    SavedView,
    SecondFactor,
    StoredBody,
    StoredItem,
    StoredResponse,
    User,
    WebSession,
)
from models_batches import Batch, BatchChunk, BatchFile, BatchLine
from models_prompts import Prompt, PromptLabel, PromptVersion
from services import owners

OWNED: Final = (
    *(WebSession, SavedView, Identity, SecondFactor, StoredItem, StoredResponse, StoredBody),
    *(Message, Dialog, Agent, RaiseRequest),
    *(Batch, BatchLine, BatchFile, BatchChunk),
)


def user(session: Session, user_id: int) -> None:
    """The user with all that is only theirs, such as keys, sessions and dialogs, within the caller's transaction."""
    keys_of(session, user_id)
    prompts(session, Prompt.user_id == user_id)
    owners.forget(session, "user", select(User.id).where(User.id == user_id))
    for table in OWNED:
        session.execute(delete(table).where(table.user_id == user_id))
    session.execute(delete(User).where(User.id == user_id))


def prompts(session: Session, are_meant: Any) -> None:
    """The stored prompts that a condition means, with versions and labels, within the caller's transaction."""
    ids = select(Prompt.id).where(are_meant)
    for table in (PromptLabel, PromptVersion):
        session.execute(delete(table).where(table.prompt_id.in_(ids)))
    session.execute(delete(Prompt).where(are_meant))


def keys_of(session: Session, user_id: int) -> None:
    """All keys of a user with their retired secrets, budgets and limits, within the caller's transaction."""
    _keys(session, select(ApiKey.id).where(ApiKey.user_id == user_id))


def key(session: Session, key_id: int) -> None:
    """The key with its retired secrets, budgets and limits, within the caller's transaction."""
    _keys(session, select(ApiKey.id).where(ApiKey.id == key_id))


def _keys(session: Session, ids: Select[tuple[int]]) -> None:
    owners.forget(session, "key", ids)
    session.execute(delete(RetiredSecret).where(RetiredSecret.key_id.in_(ids)))
    session.execute(delete(ApiKey).where(ApiKey.id.in_(ids)))
