"""`/api/v1/prompts`: stored prompts, their versions and labels. What uses them is `/v1/chat/completions`."""

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, request

from routes import render, serving
from routes.bodies import plain
from services import promptdiff, promptfields, promptrows, promptuse, rights
from services.audit import Actor
from services.dialects import checks
from services.dialects import dialogs_fields as fields
from services.errors import InvalidRequest, PermissionDenied
from services.promptrows import PromptRows
from services.types import Caller
from utils import native
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("prompts", __name__, url_prefix="/api/v1/prompts")

MAX_BODY_BYTES: Final = 2_097_152
MAX_DIGITS: Final = 9
LABEL: Final = {"version": checks.whole(1, promptrows.MOST_VERSIONS)}


@bp.get("")
@require_api_key
def list_all(caller: Caller) -> Response:
    """The prompts that the caller may use; for those who may see everything, all."""
    headers = serving.counted(caller)
    return render.answer(_rows().listed(caller), headers=headers)


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """A new prompt with its first version."""
    headers = serving.counted(caller)
    given = fields.read(promptrows.CREATE, plain(MAX_BODY_BYTES), ("name", "messages"))
    _check_model(caller, given)
    return render.answer(_rows().create(caller, _actor(caller), given), HTTPStatus.CREATED, headers)


@bp.get("/<prompt>")
@require_api_key
def show(caller: Caller, prompt: str) -> Response:
    """One prompt."""
    headers = serving.counted(caller)
    return render.answer(_rows().get(caller, prompt), headers=headers)


@bp.patch("/<prompt>")
@require_api_key
def change(caller: Caller, prompt: str) -> Response:
    """Change the name or the description."""
    headers = serving.counted(caller)
    given = fields.read(promptfields.PROMPT, plain(MAX_BODY_BYTES))
    return render.answer(_rows().change(caller, _actor(caller), prompt, given), headers=headers)


@bp.delete("/<prompt>")
@require_api_key
def delete(caller: Caller, prompt: str) -> Response:
    """Delete a prompt with its versions and labels."""
    headers = serving.counted(caller)
    _rows().remove(caller, _actor(caller), prompt)
    return _nothing(headers)


@bp.get("/<prompt>/versions")
@require_api_key
def versions(caller: Caller, prompt: str) -> Response:
    """All versions, the newest first, without their messages."""
    headers = serving.counted(caller)
    return render.answer(_rows().versions(caller, prompt), headers=headers)


@bp.post("/<prompt>/versions")
@require_api_key
def add_version(caller: Caller, prompt: str) -> Response:
    """Another version, new or made from an older one."""
    headers = serving.counted(caller)
    given = fields.read(promptrows.ADD, plain(MAX_BODY_BYTES))
    _check_model(caller, given)
    return render.answer(_rows().add_version(caller, _actor(caller), prompt, given), HTTPStatus.CREATED, headers)


@bp.get("/<prompt>/versions/<int:number>")
@require_api_key
def version(caller: Caller, prompt: str, number: int) -> Response:
    """One version with its messages."""
    headers = serving.counted(caller)
    return render.answer(_rows().version(caller, prompt, number), headers=headers)


@bp.get("/<prompt>/diff")
@require_api_key
def diff(caller: Caller, prompt: str) -> Response:
    """What changed between two versions, line by line."""
    headers = serving.counted(caller)
    before, after = (_number(name) for name in ("from", "to"))
    name = _rows().get(caller, prompt)["name"]
    sides = [_rows().version(caller, prompt, number) for number in (before, after)]
    lines = native.run(promptdiff.unified, name, *sides)
    return render.answer({"from": before, "to": after, "lines": lines}, headers=headers)


@bp.put("/<prompt>/labels/<label>")
@require_api_key
def put_label(caller: Caller, prompt: str, label: str) -> Response:
    """Have a label point at a version."""
    headers = serving.counted(caller)
    number = fields.read(LABEL, plain(MAX_BODY_BYTES), ("version",))["version"]
    return render.answer(_rows().put_label(caller, _actor(caller), prompt, label, number), headers=headers)


@bp.delete("/<prompt>/labels/<label>")
@require_api_key
def delete_label(caller: Caller, prompt: str, label: str) -> Response:
    """Remove a label."""
    headers = serving.counted(caller)
    _rows().remove_label(caller, _actor(caller), prompt, label)
    return _nothing(headers)


@bp.post("/<prompt>/render")
@require_api_key
def preview(caller: Caller, prompt: str) -> Response:
    """What a call with these variables would send; nobody is asked."""
    headers = serving.counted(caller)
    body = plain(MAX_BODY_BYTES)
    chosen = body.pop("version", None)
    if chosen is not None and not isinstance(chosen, str | int):
        raise InvalidRequest("`version` must be a number or a label.", param="version")
    told = _rows().render(caller, prompt, "" if chosen is None else str(chosen), body)
    return render.answer(told, headers=headers)


@bp.get("/<prompt>/usage")
@require_api_key
def usage(caller: Caller, prompt: str) -> Response:
    """What each version was used for in the last 30 days, by everybody, for those who may change the prompt."""
    headers = serving.counted(caller)
    row = _rows().get(caller, prompt)
    is_reader = caller.key_id is None and rights.has(caller.role, rights.READ)
    if not row["may_change"] and not is_reader:
        raise PermissionDenied(promptrows.NOT_YOURS)
    used = promptuse.of_prompt(gateway().engine, row["id"])
    return render.answer({"days": promptuse.DAYS, "versions": [asdict(one) for one in used]}, headers=headers)


def _rows() -> PromptRows:
    return gateway().control.prompt_rows


def _actor(caller: Caller) -> Actor:
    """The caller, for the audit log."""
    return Actor(caller.username, caller.user_id, request.remote_addr, request.headers.get("user-agent"))


def _check_model(caller: Caller, given: Mapping[str, Any]) -> None:
    """Whether the model is there, for the caller."""
    if given.get("model"):
        serving.found(caller, given["model"])


def _number(name: str) -> int:
    text = request.args.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_DIGITS:
        raise InvalidRequest(f"`{name}` must be the number of a version.", param=name)
    return int(text)


def _nothing(headers: dict[str, str]) -> Response:
    return Response(status=HTTPStatus.NO_CONTENT, headers={"x-request-id": render.request_id(), **headers})
