"""Stored prompts: templates with versions and labels, for everybody who may use them; who may change them also does.

Stored by services/promptrows.py, as by the API, so that the forms say no more than that takes.
"""

import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

from flask import flash, request

from routes import serving
from routes.admin import conflicts
from routes.admin.forms import options
from routes.admin.guard import PersonalView, actor, expose, go
from routes.admin.playground import asking
from routes.admin.portal.base import PortalView, given
from routes.admin.promptforms import (
    OWNER_NAMES,
    ROLE_NAMES,
    TYPE_NAMES,
    LabelForm,
    NameForm,
    PromptForm,
    VersionForm,
    data,
)
from routes.admin.texts import gettext, lazy_gettext
from services import promptdiff, promptfields, promptrows, promptuse, reports, rights
from services.dialects import dialogs_fields as fields
from services.errors import InvalidRequest, NotFound
from services.promptbook import PRODUCTION
from services.promptrows import PromptRows
from services.types import Caller
from utils import native
from utils.extensions import db, gateway

_ = lazy_gettext

SIZE: Final = 20  # prompts of a page
FARTHEST: Final = 100_000
MAX_QUERY: Final = 200
EXAMPLES: Final = {"integer": 1, "number": 0.5, "boolean": True, "json": {}}  # values, by type


class Prompts(PersonalView):
    """The prompts that the person may see."""

    icon = "file-earmark-text"
    answer_form = PortalView.answer_form

    @expose("/")
    def index_view(self) -> Any:
        """A page of them by name; with `q` those that have it in the name, the description or the owner's."""
        query = request.args.get("q", "").strip()[:MAX_QUERY].replace("\0", "")
        number = min(max(request.args.get("page", type=int) or 1, 1), FARTHEST)
        found = _rows().found(asking.caller(), number=number, size=SIZE, query=query)
        shown = {"query": query, "number": number, "has_next": number * SIZE < found.total}
        return self.render("admin/prompts/list.html", found=found, whose=_whose(found.items), **shown)

    @expose("/details/")
    def details_view(self) -> Any:
        """One of them: a version, what changed in it, labels, and what each version was used for."""
        caller, uuid = asking.caller(), _id()
        number, against = (request.args.get(name, type=int) for name in ("version", "from"))
        found = _rows().page(caller, uuid, number, against)
        row, version, lines = found.row, found.version, None
        if found.before is not None:
            lines = native.run(promptdiff.unified, row["name"], found.before, version)
        sees_use = row["may_change"] or rights.has(caller.role, rights.READ)
        used = {one.version: one for one in promptuse.of_prompt(gateway().engine, uuid)} if sees_use else None
        page = {
            "row": row,
            "versions": found.versions,
            "version": version,
            "against": against,
            "lines": lines,
            "used": used,
        }
        names = {"roles": ROLE_NAMES, "types": TYPE_NAMES, "whose": _whose([row]), "days": promptuse.DAYS}
        called = gateway().control.prompts.named(caller, uuid, row["name"])
        use = _example(called or uuid, row, version)
        return self.render("admin/prompts/details.html", **page, **names, called=called, use=use)

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new prompt."""
        caller, form = asking.caller(), PromptForm(given())
        form.owner.choices = options(_owners(caller))
        if not rights.has(caller.role, rights.CHANGE):
            del form.team
        return self.answer_form(form, lambda: self._create(caller, form), "admin/prompts/form.html", **_offer(caller))

    def _create(self, caller: Caller, form: PromptForm) -> Any:
        team = form.team.data if "team" in form and form.owner.data == promptrows.TEAM else None
        own = {"name": form.name.data, "description": form.description.data, "owner": form.owner.data}
        body = fields.read(promptrows.CREATE, own | form.said() | {"team": team or None})
        _check_model(caller, body)
        row = self._changing(lambda: _rows().create(caller, actor(), body))
        return self._saved(row["id"], row["name"])

    @expose("/version/", methods=("GET", "POST"))
    def version_view(self) -> Any:
        """The form of a new version, which begins as an older one was."""
        caller, uuid = asking.caller(), _id()
        row = self._mine(caller, uuid)
        source = _rows().version(caller, uuid, request.args.get("version", type=int) or row["newest_version"])
        form, is_fresh = VersionForm(given(), data=data(source)), request.method == "GET"
        if is_fresh:  # an empty row, so that one more can be added without JavaScript
            form.messages.append_entry()
            form.variables.append_entry()

        def add() -> Any:
            return self._add(caller, row, form.said(source))

        return self.answer_form(form, add, "admin/prompts/form.html", row=row, has_spare=is_fresh, **_offer(caller))

    def _add(self, caller: Caller, row: dict[str, Any], said: dict[str, Any]) -> Any:
        body = fields.read(promptrows.ADD, said)
        _check_model(caller, body)
        made = self._changing(lambda: _rows().add_version(caller, actor(), row["id"], body))
        flash(gettext("Version %(number)s of %(name)s was saved.", number=made["version"], name=row["name"]), "success")
        return go(".details_view", id=row["id"], version=made["version"])

    @expose("/edit/", methods=("GET", "POST"))
    def edit_view(self) -> Any:
        """The form of the name and the description."""
        caller, uuid = asking.caller(), _id()
        row = self._mine(caller, uuid)
        typed, now = given(), conflicts.fingerprint([row["name"], row["description"]])
        form, seen = NameForm(typed, data=row), (typed or {}).get("seen", "")

        def change() -> Any:
            if seen and not conflicts.is_of(seen, now):
                labels = {"name": form.name.label.text, "description": form.description.label.text}
                told = conflicts.told(seen, promptrows.RESOURCE, uuid, labels, action=promptrows.UPDATE)
                form.form_errors.extend([gettext(conflicts.CHANGED), *told])
                return self.render(
                    "admin/prompts/edit.html", form=form, row=row, seen=conflicts.mark(now)
                ), HTTPStatus.UNPROCESSABLE_ENTITY
            body = fields.read(promptfields.PROMPT, {"name": form.name.data, "description": form.description.data})
            self._changing(lambda: _rows().change(caller, actor(), uuid, body))
            return self._saved(uuid, form.name.data)

        is_draft = request.method == "GET" and seen
        mark = seen if is_draft else conflicts.mark(now)
        return self.answer_form(form, change, "admin/prompts/edit.html", row=row, seen=mark)

    @expose("/label/", methods=("GET", "POST"))
    def label_view(self) -> Any:
        """Asks where a label shall point, and says where it points now."""
        caller, uuid = asking.caller(), _id()
        row = self._mine(caller, uuid)
        asked = {"label": request.args.get("label", PRODUCTION), "version": request.args.get("version", type=int)}
        form = LabelForm(given(), data=asked)
        form.version.choices = options({number: str(number) for number in range(row["newest_version"], 0, -1)})

        def change() -> Any:
            label, number = form.label.data, form.version.data
            self._changing(lambda: _rows().put_label(caller, actor(), uuid, label, number))
            flash(gettext("%(label)s is version %(number)s now.", label=label, number=number), "success")
            return go(".details_view", id=uuid, version=number)

        return self.answer_form(form, change, "admin/prompts/label.html", row=row)

    @expose("/unlabel/", methods=("GET", "POST"))
    def unlabel_view(self) -> Any:
        """Asks, then removes a label."""
        caller, uuid = asking.caller(), _id()
        row, label = self._mine(caller, uuid), request.values.get("label", "")
        if label not in row["labels"]:
            raise NotFound(promptrows.NO_LABEL, param="label")
        if request.method == "GET":
            return self.render("admin/prompts/unlabel.html", row=row, label=label, is_plain=label == PRODUCTION)
        self._changing(lambda: _rows().remove_label(caller, actor(), uuid, label))
        flash(gettext("%(name)s was deleted.", name=label), "success")
        return go(".details_view", id=uuid)

    @expose("/delete/", methods=("GET", "POST"))
    def delete_view(self) -> Any:
        """Asks, then deletes a prompt."""
        caller, uuid = asking.caller(), _id()
        row = self._mine(caller, uuid)
        if request.method == "GET":
            return self.render("admin/prompts/delete.html", row=row)
        self._changing(lambda: _rows().remove(caller, actor(), uuid))
        flash(gettext("%(name)s was deleted.", name=row["name"]), "success")
        return go(".index_view")

    def _mine(self, caller: Caller, uuid: str) -> dict[str, Any]:
        """A prompt that the person may change."""
        row = _rows().get(caller, uuid)
        if not row["may_change"]:
            raise promptrows.refusal()
        return row

    def _changing(self, change: Callable[[], Any]) -> Any:
        db.session.rollback()  # the service has a transaction of its own
        return change()

    def _saved(self, uuid: str, name: str) -> Any:
        flash(gettext("%(name)s was saved.", name=name), "success")
        return go(".details_view", id=uuid)


def _rows() -> PromptRows:
    return gateway().control.prompt_rows


def _id() -> str:
    return request.values.get("id", "")


def _whose(rows: Sequence[dict[str, Any]]) -> Callable[[dict[str, Any]], str]:
    """The name of a prompt's user or team, as the template asks for it."""
    users, teams = ({row[name] for row in rows} for name in ("user_id", "team_id"))
    names = reports.names(gateway().engine, users - {None}, (), teams)

    def of(row: dict[str, Any]) -> str:
        if row["owner"] == promptrows.EVERYONE:
            return str(OWNER_NAMES[promptrows.EVERYONE])
        return names.users.get(row["user_id"]) or names.teams.get(row["team_id"]) or gettext("nobody")

    return of


def _owners(caller: Caller) -> dict[str, Any]:
    """For whom the person may make prompts."""
    may_all = rights.has(caller.role, rights.CHANGE)
    has_team = may_all or (caller.team_id is not None and rights.has(caller.role, rights.TEAM))
    kinds = {promptrows.USER: True, promptrows.TEAM: has_team, promptrows.EVERYONE: may_all}
    return {kind: OWNER_NAMES[kind] for kind, may in kinds.items() if may}


def _offer(caller: Caller) -> dict[str, Any]:
    """The names of models for the browser to suggest."""
    return {"names": [model.name for model in serving.offered(caller)]}


def _check_model(caller: Caller, body: dict[str, Any]) -> None:
    """Whether the model is there, for the person."""
    if body["model"] and body["model"] not in _offer(caller)["names"]:
        raise InvalidRequest("There is no model of that name.", param="model")


def _example(called: str, row: dict[str, Any], version: dict[str, Any]) -> str:
    """The body of a call that uses this version."""
    number = version["version"]
    is_meant = number == row["labels"].get(PRODUCTION, row["newest_version"])
    body: dict[str, Any] = {"prompt_id": called if is_meant else f"{called}@{number}"}
    if version["model"] is None:
        body["model"] = "MODEL"
    values = {one["name"]: _example_value(one) for one in version["variables"] if one["is_required"]}
    return json.dumps(body | {"variables": values}, ensure_ascii=False, indent=2)


def _example_value(variable: dict[str, Any]) -> Any:
    return variable["options"][0] if variable["options"] else EXAMPLES.get(variable["type"], "…")
