"""The tables of stored prompts: a name, its versions, which never change, and the labels that point at them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from utils import ids
from utils.columns import Names, Serial, created, updated
from utils.extensions import Base


class Prompt(Base):
    """A name for templates. It belongs to a user, to a team, or to neither: then everybody may use it."""

    __tablename__ = "prompts"
    __table_args__ = (
        Index("uq_prompts_name", "user_id", "team_id", "name", unique=True),
        Index("ix_prompts_name", "name"),
        Index("uq_prompts_uuid", "uuid", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), default=ids.uuid)  # what clients of the API see
    user_id: Mapped[int] = mapped_column(BigInteger, default=0)  # 0 = no user's
    team_id: Mapped[int] = mapped_column(BigInteger, default=0)  # 0 = no team's
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str] = mapped_column(String(500), default="")
    newest: Mapped[int] = mapped_column(default=0)  # the number of the newest version
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()


class PromptVersion(Base):
    """What a prompt said once. Usage knows it by its id for ever."""

    __tablename__ = "prompt_versions"
    __table_args__ = (
        Index("uq_prompt_versions_number", "prompt_id", "number", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    prompt_id: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column()
    messages: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # as services/promptfields.py reads them
    model_name: Mapped[str | None] = mapped_column(String(200))  # None = the caller's
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # as those of agents
    variables: Mapped[list[dict[str, Any]] | None] = mapped_column(Names)
    note: Mapped[str] = mapped_column(String(500), default="")
    author: Mapped[str] = mapped_column(String(150))
    created_at: Mapped[datetime] = created()


class PromptLabel(Base):
    """A name for a version of a prompt, which can be moved."""

    __tablename__ = "prompt_labels"

    prompt_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column()
    updated_at: Mapped[datetime] = updated()
