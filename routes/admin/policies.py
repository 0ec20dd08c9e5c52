"""Policies: what must not go out or come back, tried on a text before it applies to calls.

Stored by services/policybook.py, as by the API, so the form says no more than that takes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import flash, request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models_policies import Policy, PolicyBinding
from routes.admin import bound, policywords
from routes.admin.guard import actor, expose, go
from routes.admin.policyforms import ACTION_NAMES, FAILURE_NAMES, LISTS, PolicyForm, values
from routes.admin.tables import Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import owners
from services.guards import rules, trial
from services.policies.kinds import KINDS
from services.policybook import Stored
from services.policyfields import MAX_RULES
from utils.extensions import db, gateway

_ = lazy_gettext

LONGEST_TRIAL: Final = 20_000  # characters of a text that is tried
TONES: Final = {rules.BLOCK: "bad", rules.REDACT: "warn", rules.WARN: "warn", rules.ALLOW: "quiet"}


class Policies(Table):
    """The policies."""

    model_class = Policy
    icon, singular, resource = "shield-check", N_("Policy"), "policy"
    column_list = ("name", "state", "rules", "bound", "updated_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Policy"),
        "state": _("State"),
        "rules": _("Rules"),
        "bound": _("Applies to"),
        "updated_at": _("Changed"),
        # What its changes are called in the audit log
        "config": _("Personal data and secrets"),
        "regexConfig": _("Regular expressions"),
        "wordConfig": _("Words"),
        "customConfig": _("Judged by a model"),
        "sizeConfig": _("Size"),
        "onJudgeFailure": _("If the model does not answer"),
        "appliesTo": _("It looks at"),
        "dryRun": _("Dry run"),
        "boundTo": _("Applies to"),
        "updatedAt": _("Changed"),
        "version": _("Version"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name"]
    column_default_sort = "name"
    column_searchable_list = ("name", "uuid")
    exported = (
        "id",
        "uuid",
        "name",
        "tags",
        "rules",
        "is_enabled",
        "is_dry_run",
        "is_for_all",
        "version",
        "updated_at",
    )
    exported_as: ClassVar[Mapping[str, Any]] = {"state": ("is_enabled", "is_dry_run"), "bound": ("is_for_all",)}
    list_template = "admin/policies/list.html"
    create_template = edit_template = "admin/policies/form.html"
    details_template = "admin/policies/details.html"

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """How many keys, users, teams and models each is bound to."""
        query = select(PolicyBinding.policy_id, func.count()).group_by(PolicyBinding.policy_id)
        found = db.session.execute(query.where(PolicyBinding.policy_id.in_([row.id for row in rows])))
        return {"bound": dict(found.tuples().all()), "count_rules": _count}

    def details(self, row: Policy) -> Mapping[str, Any]:
        """Its rules, and what it is bound to."""
        return {
            "view": gateway().control.policies.get(row.uuid),
            "kinds": {
                **{name: policywords.title(name) for name in KINDS},
                rules.ALL: _("All other kinds"),
                rules.SIZE: _("Size"),
                rules.UNREADABLE: _("It cannot be read; save it anew."),
            },
            "lists": LISTS,
            "actions": ACTION_NAMES,
            "failures": FAILURE_NAMES,
            "tones": TONES,
            "most": LONGEST_TRIAL,
            "names": owners.names(db.session(), [(one.scope, one.scope_id) for one in row.bindings]),
            "why_kept": self.why_kept(row),
            "text": "",
            "trial": None,
        }

    def create_form(self, obj: Any = None) -> PolicyForm:
        """See Flask-Admin."""
        given = self.given()
        return _with_rows(PolicyForm(given), is_fresh=given is None)

    def edit_form(self, obj: Any = None) -> PolicyForm:
        """See Flask-Admin."""
        given = self.given()
        view = gateway().control.policies.get(obj.uuid)
        return _with_rows(PolicyForm(given, data=values(view)), is_fresh=given is None)

    def create(self, form: Any) -> Any:
        """Store a new one."""
        body = form.given()
        db.session.rollback()  # the service has a transaction of its own
        return self._saved(gateway().control.policies.create(actor(), body))

    def update(self, form: Any, row: Policy) -> Any:
        """Store what changed."""
        body, uuid = form.given(), row.uuid
        db.session.rollback()  # the service has a transaction of its own
        return self._saved(gateway().control.policies.update(actor(), uuid, body))

    def _saved(self, stored: Stored) -> Any:
        view = stored.view
        number = db.session.scalars(select(Policy.id).where(Policy.uuid == view["id"])).one()
        flash(gettext("%(name)s was saved.", name=view["name"]), "success")
        bound.tell(stored.losers)
        return go(".details_view", id=number)

    @expose("/test/", methods=("GET", "POST"))
    def test_view(self) -> Any:
        """What it would find in a text, and what would go out; nothing of that is kept."""
        row = self.row()
        if request.method == "GET":  # somebody came back to the address
            return go(".details_view", id=row.id)
        text = request.form.get("text", "")[:LONGEST_TRIAL].replace("\r\n", "\n")
        told = {**self.details(row), "text": text, "trial": trial.of(rules.compiled(row), text)}
        fixed, locked = self.why_fixed(row), self.why_locked(row)
        return self.render(self.details_template, row=row, why_fixed=fixed, why_locked=locked, **told)

    def note_deletion(self, session: Session, row: Policy) -> None:
        """The service that deletes writes the entry."""

    def delete(self, session: Session, row: Policy) -> None:
        """See services/policybook.py."""
        uuid = row.uuid
        session.rollback()  # the service has a transaction of its own
        gateway().control.policies.delete(actor(), uuid)

    def consequences(self, row: Policy) -> list[str]:
        """What happens to the calls that it applies to."""
        return [gettext("Calls that it applies to go on without it within two seconds.")]

    def audited(self, row: Policy) -> str:
        """See Table."""
        return row.uuid

    def title(self, row: Policy) -> str:
        """See Table."""
        return row.name

    def describe(self, row: Policy) -> dict[str, Any]:
        """See Table."""
        return gateway().control.policies.get(row.uuid)


def _count(row: Policy) -> int:
    """How many rules it has."""
    found = row.rules
    lists = sum(len(found.get(name) or ()) for name in ("patterns", "words", "judges"))
    return len(found.get("kinds") or {}) + lists + bool(found.get("size"))


def _with_rows(form: PolicyForm, *, is_fresh: bool) -> PolicyForm:
    """The form with an empty row in each list, so that one more rule can be added without JavaScript."""
    for name in LISTS:
        if (is_fresh and len(form[name].entries) < MAX_RULES) or not form[name].entries:
            form[name].append_entry()
    return form
