"""Alerts: what was noticed and who heard of it; and the targets that hear of it. See services/alerts.py."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final

from flask import flash, request
from flask import session as browser
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session
from wtforms import BooleanField, RadioField, SelectMultipleField
from wtforms.validators import InputRequired, Length, ValidationError
from wtforms.widgets import CheckboxInput, ListWidget

from models_alerts import Alert, AlertDelivery, AlertTarget
from routes import wording
from routes.admin import alertwords as words
from routes.admin.filters import SPAN, SPANS_MS
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.guard import actor, admin, expose, go
from routes.admin.tables import Choice, Log, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import alerts, alerttargets, audit, reports
from services.alertpost import Outcome
from utils import clock
from utils.extensions import db, gateway

_ = lazy_gettext

SHOWN_ONCE: Final = "new_alert_secret"  # in the cookie, sealed, from making a secret to showing it
NOBODY: Final = "nobody"


class Alerts(Log):
    """What was noticed, newest first, with what became of telling it."""

    model_class = Alert
    icon, singular, resource = "bell", N_("Alert"), "alert"
    column_list = ("created_at", "event", "subject", "state", "targets")
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "event": _("Event"),
        "subject": _("What happened"),
        "state": _("State"),
        "targets": _("Told to"),
    }
    exported = ("id", "code", "created_at", "event", "subject", "period", "facts", "state", "targets")
    exported_as: ClassVar[Mapping[str, Any]] = {"subject": ("subject", "period", "facts"), "event": ("event", "code")}
    list_template = "admin/alerts/list.html"
    details_template = "admin/alerts/details.html"
    choices = (
        SPAN,
        Choice("event", _("Event"), list(words.EVENT_NAMES.items())),
        Choice("state", _("State"), [*words.STATE_NAMES.items(), (NOBODY, _("Told to nobody"))]),
    )

    def walk(self) -> reports.Walk:
        """See Log."""
        event, state, span = (self.chosen(name) for name in ("event", "state", "span"))
        also: list[reports.Also] = []
        if event:
            also.append(lambda columns: columns.event == event)
        if state:
            also.append(lambda columns: _is_in(state, columns))
        if span:
            since = clock.now() - timedelta(milliseconds=SPANS_MS[span])
            also.append(lambda columns: columns.created_at >= since)
        return reports.Walk(Alert.id, (), tuple(also))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """What became of them."""
        numbers = [row.id for row in rows]
        found: dict[int, list[tuple[str, str]]] = defaultdict(list)
        query = select(AlertDelivery.alert_id, AlertDelivery.state, AlertTarget.name)
        query = query.join(AlertTarget, AlertTarget.id == AlertDelivery.target_id).order_by(AlertDelivery.id)
        for number, state, name in db.session.execute(query.where(AlertDelivery.alert_id.in_(numbers))):
            found[number].append((state, name))
        has_targets = bool(numbers) or db.session.scalar(select(AlertTarget.id).limit(1)) is not None
        return {
            "told": found,
            "words": words,
            "state_of": lambda row: _state(found[row.id]),
            "has_targets": has_targets,
        }

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        told = extras["told"][row.id]
        return {"state": _state(told), "targets": ", ".join(name for _state_of, name in told)}

    def title(self, row: Any) -> str:
        """What it is about."""
        return str(words.EVENT_NAMES.get(row.event, row.event))

    def details(self, row: Any) -> Mapping[str, Any]:
        """Its deliveries."""
        query = select(AlertDelivery, AlertTarget).join(AlertTarget, AlertTarget.id == AlertDelivery.target_id)
        query = query.where(AlertDelivery.alert_id == row.id).order_by(AlertDelivery.id)
        return {"deliveries": db.session.execute(query).all(), "words": words, "say": wording.say}

    @expose("/again/", methods=("POST",))
    def again_view(self) -> Any:
        """Send again what was not taken, to one target or to all."""
        row, target = self.row(), request.form.get("target", type=int)
        wanted = select(AlertDelivery).where(AlertDelivery.alert_id == row.id, AlertDelivery.state != "sent")
        if target is not None:
            wanted = wanted.where(AlertDelivery.target_id == min(max(0, target), 2**62))
        found = db.session.scalars(wanted).all()
        for delivery in found:
            alerttargets.again(db.session(), actor(), delivery)
        db.session.commit()
        said = gettext("It is sent again in a moment.") if found else gettext("Everybody has it already.")
        flash(said, "success")
        return go(".details_view", id=row.id)


class EventsField(SelectMultipleField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Events to tick."""

    def pre_validate(self, form: Any) -> None:
        """See WTForms."""
        if set(self.data or ()) - set(alerts.OFFERED):
            raise ValidationError(gettext("Not a valid choice."))


class TargetForm(PanelForm):
    """What may be changed of a target."""

    name = TextField(_("Name"), [InputRequired(), Length(1, alerttargets.MAX_NAME)])
    address = TextField(
        _("Address"), [Length(0, alerttargets.MAX_ADDRESS)], description=_("Left empty, it stays what it is.")
    )
    events = EventsField(
        _("Events"),
        choices=options({event: words.EVENT_NAMES[event] for event in alerts.OFFERED}),
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
        description=_("None ticked: all of them, also those that later versions add."),
    )
    is_enabled = BooleanField(_("Enabled"), default=True)

    def read(self, kind: str) -> alerttargets.Given:
        """As services/alerttargets.py takes it."""
        chosen = self.events.data or None
        return alerttargets.Given(self.name.data, kind, self.address.data or None, chosen, self.is_enabled.data)


class NewTargetForm(TargetForm):
    """The same with its kind."""

    kind = RadioField(_("Kind"), choices=options(words.KIND_NAMES), default="webhook")
    address = TextField(
        _("Address"),
        [InputRequired(), Length(1, alerttargets.MAX_ADDRESS)],
        description=_("Of a webhook https://host/path; of e-mail one address or several, with commas between them."),
    )


class AlertTargets(Table):
    """The targets."""

    model_class = AlertTarget
    icon, singular, resource = "broadcast", N_("Alert target"), alerttargets.RESOURCE
    column_list = ("name", "kind", "hint", "events", "is_enabled", "state")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Name"),
        "kind": _("Kind"),
        "hint": _("Address"),
        "events": _("Events"),
        "is_enabled": _("Enabled"),
        "state": _("Deliveries"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name"]
    column_default_sort = "name"
    column_searchable_list = ("name", "hint")
    exported = ("id", "name", "kind", "hint", "events", "is_enabled", "created_at", "updated_at")
    exported_as: ClassVar[Mapping[str, Any]] = {"state": ()}
    list_template = "admin/alert_targets/list.html"
    create_template = "admin/alert_targets/create.html"
    edit_template = "admin/alert_targets/edit.html"
    details_template = "admin/alert_targets/details.html"

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """How many deliveries each has, by state."""
        return {"counts": _counts([row.id for row in rows]), "words": words}

    def details(self, row: AlertTarget) -> Mapping[str, Any]:
        """Its newest deliveries."""
        query = select(AlertDelivery, Alert).join(Alert, Alert.id == AlertDelivery.alert_id)
        query = query.where(AlertDelivery.target_id == row.id).order_by(AlertDelivery.id.desc()).limit(10)
        has_mail = row.kind != "email" or bool(gateway().config.smtp_host)
        shown = {"deliveries": db.session.execute(query).all(), "words": words, "say": wording.say}
        return {**shown, "has_mail": has_mail, "why_kept": self.why_kept(row)}

    def create_form(self, obj: Any = None) -> NewTargetForm:
        """See Flask-Admin."""
        return NewTargetForm(self.given())

    def edit_form(self, obj: Any = None) -> TargetForm:
        """See Flask-Admin; the address of a webhook may hold a secret, so it is not sent back."""
        return TargetForm(self.given(), name=obj.name, events=obj.events or [], is_enabled=obj.is_enabled)

    def create(self, form: Any) -> Any:
        """Store a new one; its secret is shown on the next page, and nowhere else."""
        given = form.read(form.kind.data)
        row, secret = alerttargets.create(db.session(), gateway().sealer, actor(), given)
        return self._stored(row, secret)

    def update(self, form: Any, row: AlertTarget) -> Any:
        """Store what changed."""
        alerttargets.change(db.session(), gateway().sealer, actor(), row, form.read(row.kind))
        return self._stored(row)

    def _stored(self, row: AlertTarget, secret: str = "") -> Any:
        db.session.commit()
        flash(gettext("%(name)s was saved.", name=row.name), "success")
        if not secret:
            return go(".details_view", id=row.id)
        browser[SHOWN_ONCE] = gateway().sealer.seal(f"{row.id} {secret}").decode()
        return go(".created_view", id=row.id)

    @expose("/created/")
    def created_view(self) -> Any:
        """A new secret, once: reloading shows that it is gone."""
        row, sealed = self.row(), browser.pop(SHOWN_ONCE, "")
        number, _space, secret = (gateway().sealer.open(sealed.encode()) if sealed else "").partition(" ")
        if number != str(row.id):
            return go(".details_view", id=row.id)
        return self.render("admin/alert_targets/created.html", row=row, secret=secret)

    @expose("/rotate/", methods=("GET", "POST"))
    def rotate_view(self) -> Any:
        """Asks, then makes a new secret."""
        row = self.row()
        reason = None if row.kind == "webhook" else gettext("E-mail has no secret.")
        if request.method == "GET":
            return self.render("admin/alert_targets/rotate.html", row=row, why_kept=reason)
        self.refuse(reason)
        return self._stored(row, alerttargets.rotate(db.session(), gateway().sealer, actor(), row))

    @expose("/test/", methods=("POST",))
    def test_view(self) -> Any:
        """Sends a test now and says what came of it."""
        row = self.row()
        number, by = row.id, admin().username
        audit.note(db.session(), actor(), f"{self.resource}_test", self.resource, number)
        db.session.commit()  # nothing may stay locked while the target thinks
        outcome = gateway().alerts.post.test(number, by)
        flash(_said(outcome), "danger" if outcome.error else "success")
        return go(".details_view", id=number)

    def consequences(self, row: AlertTarget) -> list[str]:
        """What it will not get any more."""
        found = [gettext("It is not told of anything any more; what it was told goes from the list of alerts.")]
        if waiting := alerttargets.waiting_of(db.session(), row.id):
            found.append(gettext("%(count)s alerts that wait for it are never sent.", count=waiting))
        return found

    def delete(self, session: Session, row: AlertTarget) -> None:
        """See Table."""
        alerttargets.remove(session, row)

    def describe(self, row: AlertTarget) -> dict[str, Any]:
        """See Table."""
        return alerttargets.described(row)

    def fingerprint(self, row: AlertTarget) -> str:
        """See Table; the moment stands for address and secret, which nobody is shown."""
        return f"{super().fingerprint(row)}{row.updated_at.timestamp():.3f}"

    def settled(self) -> None:
        """No worker keeps targets."""


def _said(outcome: Outcome) -> str:
    if outcome.error:
        return gettext("The test was not taken: %(reason)s", reason=wording.say(outcome.error))
    if outcome.status is None:
        return gettext("The mail server took the test.")
    return gettext("The test was taken: the answer was %(status)s.", status=outcome.status)


def _state(told: list[tuple[str, str]]) -> str:
    return words.overall(Counter(state for state, _name in told))


def _is_in(state: str, columns: Any) -> Any:
    mine = AlertDelivery.alert_id == columns.id
    return ~exists().where(mine) if state == NOBODY else exists().where(mine, AlertDelivery.state == state)


def _counts(targets: list[int]) -> Mapping[int, Mapping[str, int]]:
    """Deliveries by target and state."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    query = select(AlertDelivery.target_id, AlertDelivery.state, func.count()).where(
        AlertDelivery.target_id.in_(targets)
    )
    for target, state, count in db.session.execute(query.group_by(AlertDelivery.target_id, AlertDelivery.state)):
        found[target][state] = count
    return found
