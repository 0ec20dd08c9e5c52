"""The tables of dialogs, agents, ways to sign in and the audit log. Units as in models.py."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, Text
from sqlalchemy import LargeBinary as Sealed
from sqlalchemy.orm import Mapped, mapped_column, synonym

from utils import ids
from utils.columns import Managed, Names, Serial, UtcMs, created, one_of, updated
from utils.extensions import Base


class Dialog(Base):
    """A conversation of one user with one model."""

    __tablename__ = "dialogs"
    __table_args__ = (
        Index("ix_dialogs_user", "user_id", "updated_at", "id"),
        Index("ix_dialogs_updated", "updated_at", "id"),  # those of everybody, as the panel lists them
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=ids.uuid)
    user_id: Mapped[int] = mapped_column(BigInteger)
    title: Mapped[str | None] = mapped_column(String(255))
    system_prompt: Mapped[str | None] = mapped_column(Text)
    model_name: Mapped[str] = mapped_column(String(200))
    agent_config: Mapped[dict[str, Any] | None] = mapped_column(Names)
    message_count: Mapped[int] = mapped_column(default=0, server_default="0")
    busy_until: Mapped[int | None] = mapped_column(
        BigInteger
    )  # unix ms: a message is being answered, at most until then
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    def __str__(self) -> str:
        return self.title or self.id


class Message(Base):
    """One message of a dialog. Triggers keep its words in the index that `services/dialogs.py` searches."""

    __tablename__ = "messages"
    __table_args__ = (
        one_of("role", "system", "user", "assistant"),
        Index("uq_messages_id", "id", unique=True),
        Index("ix_messages_dialog", "dialog_id", "number"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(Serial, primary_key=True)  # in their order
    id: Mapped[str] = mapped_column(String(36), default=ids.uuid)
    dialog_id: Mapped[str] = mapped_column(String(36))
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    role: Mapped[str] = mapped_column(String(20))
    content: Mapped[str] = mapped_column(Text)
    prompt_tokens: Mapped[int | None] = mapped_column(BigInteger)
    completion_tokens: Mapped[int | None] = mapped_column(BigInteger)
    request_id: Mapped[str | None] = mapped_column(String(80))  # whose usage and charge it is
    created_at: Mapped[datetime] = created()


class Agent(Managed, Base):
    """A named way to ask a model: instructions and parameters. Presets belong to nobody."""

    __tablename__ = "agents"
    __table_args__ = (Index("uq_agents_owner_name", "user_id", "name", unique=True),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=ids.uuid)
    user_id: Mapped[int] = mapped_column(BigInteger)  # 0 = for everybody
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str] = mapped_column(String(500), default="")
    system_prompt: Mapped[str | None] = mapped_column(Text)
    model_name: Mapped[str | None] = mapped_column(String(200))  # None = the dialog's
    config: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()


class SystemConfig(Managed, Base):
    """A value that admins keep here. A secret one is sealed and never shown."""

    __tablename__ = "system_configs"

    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    id: Mapped[str] = synonym("key")  # as all pages of the panel name their rows
    value: Mapped[str | None] = mapped_column(Text)
    sealed: Mapped[bytes | None] = mapped_column(Sealed)
    is_secret: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str] = mapped_column(String(500), default="")
    updated_by: Mapped[str] = mapped_column(String(150), default="")
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()


class Identity(Base):
    """A user as somebody else knows it: an OpenID provider or a back end."""

    __tablename__ = "identities"

    issuer: Mapped[str] = mapped_column(String(500), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    created_at: Mapped[datetime] = created()


class Invitation(Base):
    """A code with which somebody may register, once."""

    __tablename__ = "invitations"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = synonym("digest")
    hint: Mapped[str] = mapped_column(String(20))
    role: Mapped[str] = mapped_column(String(20), default="user")
    team_id: Mapped[int | None] = mapped_column(BigInteger)
    created_by: Mapped[str] = mapped_column(String(150))
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime] = mapped_column(UtcMs)
    used_at: Mapped[datetime | None] = mapped_column(UtcMs)
    used_by: Mapped[int | None] = mapped_column(BigInteger)


class SecondFactor(Base):
    """The secret of a user's authenticator, and how far its codes are used up."""

    __tablename__ = "second_factors"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sealed: Mapped[bytes] = mapped_column(Sealed)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcMs)  # None: it was shown but never used
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)  # a code opens once
    recovery: Mapped[list[str] | None] = mapped_column(Names)  # digests of codes for the day the device is lost


class SavedView(Base):
    """Filters, search and columns of a list of the panel, under a name. Without a name: somebody's columns."""

    __tablename__ = "saved_views"
    __table_args__ = (
        Index("uq_saved_views_name", "user_id", "view", "name", unique=True),
        Index("ix_saved_views_shared", "is_shared", "view"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    view: Mapped[str] = mapped_column(String(60))
    name: Mapped[str] = mapped_column(String(300))
    is_shared: Mapped[bool] = mapped_column(default=False, server_default="0")
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    def __str__(self) -> str:
        return self.name


class StoredBody(Base):
    """What a call said and was answered, where its key asks for that. Sealed; it goes when it expires."""

    __tablename__ = "stored_bodies"

    request_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcMs)
    expires_at: Mapped[datetime] = mapped_column(UtcMs, index=True)
    request: Mapped[bytes | None] = mapped_column(Sealed)
    response: Mapped[bytes | None] = mapped_column(Sealed)


class AuditEntry(Base):
    """Who did what to what, when, from where. Append-only; values of secrets are never in it."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("uq_audit_log_sequence", "sequence", unique=True),
        Index("ix_audit_log_user", "user_id", "id"),
        Index("ix_audit_log_action", "action", "id"),
        Index("ix_audit_log_resource", "resource_type", "id"),
        Index("ix_audit_log_created", "created_at", "id"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    created_at: Mapped[datetime] = created()
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(150))
    action: Mapped[str] = mapped_column(String(40))
    resource_type: Mapped[str] = mapped_column(String(40))
    resource_id: Mapped[str | None] = mapped_column(String(200))
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    ip_address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(String(255))
    sequence: Mapped[int | None] = mapped_column(BigInteger)  # its place in the chain
    digest: Mapped[str | None] = mapped_column(String(64))  # of itself and the one before


class AuditHead(Base):
    """One row: where the chain of audit entries ends. Whoever adds to it takes this row first."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entry_id: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
