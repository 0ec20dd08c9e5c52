"""Stored prompts and their versions as they are shown, and as the audit log has them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models_prompts import Prompt, PromptVersion
from services.promptfields import Reading


def describe(row: Prompt, reading: Reading | None = None) -> dict[str, Any]:
    """A prompt for the audit log: of its texts only how long they are."""
    found: dict[str, Any] = {"name": row.name, "description": row.description}
    found |= {"user_id": row.user_id, "team_id": row.team_id, "newest": row.newest}
    if reading is not None:
        found |= {"model": reading.model_name, "parameters": reading.parameters, "note": reading.note}
        found["chars"] = sum(len(message["content"]) for message in reading.messages)
        found["variables"] = [variable["name"] for variable in reading.variables]
    return found


def members(row: PromptVersion) -> dict[str, Any]:
    """A version as a new one is given."""
    return {
        "messages": row.messages,
        "model": row.model_name,
        "parameters": row.parameters or {},
        "variables": row.variables or [],
        "note": row.note,
    }


def shown(row: PromptVersion, labels: Mapping[str, int]) -> dict[str, Any]:
    """A version with all that is in it."""
    named = sorted(name for name, number in labels.items() if number == row.number)
    told = {"author": row.author, "created_at": row.created_at}
    return {"version": row.number, "labels": named, **members(row), **told}


def versions(session: Session, row: Prompt, labels: Mapping[str, int]) -> list[dict[str, Any]]:
    """The versions of a prompt, the newest first, without their messages."""
    columns = (PromptVersion.number, PromptVersion.model_name, PromptVersion.note, PromptVersion.author)
    query = select(*columns, PromptVersion.created_at).where(PromptVersion.prompt_id == row.id)
    return [
        {
            "version": one.number,
            "labels": sorted(name for name, number in labels.items() if number == one.number),
            "model": one.model_name,
            "note": one.note,
            "author": one.author,
            "created_at": one.created_at,
        }
        for one in session.execute(query.order_by(PromptVersion.number.desc()))
    ]
