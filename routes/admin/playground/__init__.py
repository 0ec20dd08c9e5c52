"""The playground: trying models with one's own account, as one's programs would ask them.

The page is a client like any other: what it sends goes through the pipeline of /v1 (asking.py), on the budgets, limits
and lists of whoever has signed in. A conversation lives in the page alone; nothing of it is kept here.
"""

from typing import Any, Final

from flask import Response, abort, redirect, request, url_for
from flask_babel import get_locale
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from models import UsageRecord
from routes import render, serving, wording
from routes.admin.guard import PersonalView, admin, expose
from routes.admin.playground import asking, keeping, plain, replaying
from routes.admin.playground.words import words
from routes.admin.secrets import base_url
from services import abilities, agents, rights
from services.bodies import LONGEST_ID
from services.dialects import dialogs_fields
from services.errors import GatewayError, NotFound
from services.types import Caller
from utils.extensions import db, gateway

PAGE: Final = "admin/playground/index.html"
MISSING: Final = "There is no call of this number, or it is somebody else's."


class Playground(PersonalView):
    """A conversation with any model that the person may use."""

    icon = "chat-square-text"

    @expose("/", methods=("GET", "POST"))
    def index(self) -> Any:
        """The page; a form without JavaScript sends one prompt here and gets the page with its answer."""
        caller = asking.caller()
        said, status = plain.Said(), 200
        if request.method == "POST":
            try:
                said = plain.ask(caller, request.form)
            except GatewayError as exc:
                render.note(exc, render.request_id())
                said, status = plain.Said(problem=wording.say(str(exc))), exc.status
        return self.render(PAGE, setup=_setup(caller), words=words(), form=request.form, said=said), status

    @expose("/chat", methods=("POST",))
    @asking.in_json
    def chat_view(self) -> Response:
        """One call: a body as for /v1/chat/completions in, its answer out."""
        return asking.answer()

    @expose("/figures")
    @asking.in_json
    def figures_view(self) -> Response:
        """What was booked for one's own call, such as one that was stopped."""
        row = _row(request.args.get("call", ""))
        if row is None or row.user_id != admin().user_id:
            raise NotFound(MISSING)
        return render.answer(asking.booked(row))

    @expose("/prompt")
    @asking.in_json
    def prompt_view(self) -> Response:
        """What a stored prompt takes, of those that the person may use."""
        found = gateway().control.prompts.find(asking.caller(), request.args.get("reference", ""))
        told = {"prompt": f"{found.name}@{found.number}", "model": found.model_name, "variables": found.variables}
        return render.answer(told | {"is_complete": found.messages[-1]["role"] == "user"})

    @expose("/explorer")
    def explorer_view(self) -> AnyResponse:
        """The page of a call by its request id, for those who may see all calls."""
        if not rights.has(admin().role, rights.READ):
            abort(403)
        row = _row(request.args.get("call", ""))
        if row is None:
            abort(404)
        return redirect(url_for("usage.details_view", id=row.id))

    @expose("/dialog", methods=("POST",))
    @asking.in_json
    def dialog_view(self) -> Response:
        """Keep the conversation as a dialog, which programs go on with through /api/v1/dialogs."""
        return render.answer(keeping.keep(asking.caller()), 201)


def _row(request_id: str) -> UsageRecord | None:
    """The call of that id."""
    if not request_id.isprintable() or len(request_id) > LONGEST_ID:
        return None
    return db.session.scalar(select(UsageRecord).where(UsageRecord.request_id == request_id))


def _setup(caller: Caller) -> dict[str, Any]:
    """What the page begins with: what may be chosen, what is chosen, and what it has to know of this gateway."""
    request_id = request.args.get("call", "")
    replay = replaying.of(caller, _row(request_id), request_id) if request_id else None
    wanted = (replay or {}).get("model") or request.args.get("model", "")
    offered = [one for one in serving.offered(caller) if one.name == wanted or abilities.chats(one, caller)]
    here = gateway()
    return {
        "user": caller.user_id,
        "language": str(get_locale()).replace("_", "-"),
        "base_url": base_url(),
        "max_bytes": here.config.max_body_bytes,
        "may_explore": rights.has(caller.role, rights.READ),
        "models": [
            {"name": one.name, "window": one.context_window, "most": one.max_output_tokens, "by": one.owned_by}
            for one in offered
        ],
        "agents": [_agent(one) for one in agents.list_all(here.engine, caller.user_id)],
        "prompts": _prompts(caller),
        "prompt": request.args.get("prompt", ""),
        "model": wanted,
        "best": abilities.best(offered, caller, here.health, needs_price=here.config.refuses_unpriced),
        "agent": request.args.get("agent", ""),
        "replay": replay,
        "urls": {name: url_for(f".{name}_view") for name in ("chat", "figures", "explorer", "dialog", "prompt")}
        | {"sign_in": url_for("signin.login", next=url_for(".index"))},
    }


def _prompts(caller: Caller) -> list[str]:
    """The prompts that may be chosen, alone and by their labels, and the one that the address names."""
    rows = gateway().control.prompt_rows.usable(caller)
    names = [name for row in rows for name in (row["name"], *(f"{row['name']}@{label}" for label in row["labels"]))]
    given = request.args.get("prompt", "")
    return list(dict.fromkeys([*names, *([given] if given else [])]))


def _agent(one: dict[str, Any]) -> dict[str, Any]:
    """An agent with its parameters as members of a chat."""
    return {
        "id": one["id"],
        "name": one["name"],
        "description": wording.say(one["description"]),
        "is_preset": one["is_preset"],
        "model": one["model_name"],
        "system": one["system_prompt"],
        "members": dialogs_fields.parameters(one["config"]),
    }
