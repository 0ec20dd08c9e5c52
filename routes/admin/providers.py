"""Providers: the upstream accounts, their credentials (written, never shown), and asking for their models."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from flask import flash, request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import Deployment, Model, Provider
from routes import providerwords
from routes.admin import bulk
from routes.admin.forms import KIND_NAMES
from routes.admin.guard import actor, expose, go
from routes.admin.managed import source_of
from routes.admin.providerforms import ProviderForm, settings_from, shown, vendor_of
from routes.admin.tables import Choice, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import audit, costmaps, modelbook
from services.credentials import SealBroken, masked
from services.errors import InvalidRequest
from services.providers.kinds import KINDS
from services.providers.vendors import VENDORS
from utils.extensions import db, gateway

_ = lazy_gettext

NAMED_MODELS: Final = 200
COMMON_LABELS: Final = {
    "operations": N_("What it offers"),
    "on_disconnect": N_("When a caller leaves"),
    "drain_max_s": N_("Read on for at most, seconds"),
    "drain_max_streams": N_("Read on at once in each worker, at most"),
}


class Providers(Table):
    """The upstream accounts."""

    model_class = Provider
    icon, singular, resource = "hdd-network", "Provider", "provider"
    column_list = ("name", "kind", "base_url", "models", "state", "managed_by")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Provider"),
        "kind": _("Kind"),
        "base_url": _("Address"),
        "models": _("Models"),
        "state": _("State"),
        "managed_by": _("Managed by"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name"]
    column_default_sort = "name"
    column_searchable_list = ("name", "base_url")
    many = (
        *bulk.switches(
            off=[_("Calls go to other providers of their models, or are refused. Credentials stay.")],
            on=[_("Calls go to them again at once.")],
        ),
        bulk.delete(_("Models lose these deployments; models that were found at these providers only go with them.")),
    )
    exported = (
        *("id", "name", "kind", "base_url", "models", "is_enabled", "discover", "has_credential", "discovered_at"),
        *("discovery_error", "managed_by"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {"state": ("is_enabled", "discovery_error")}
    list_template = "admin/providers/list.html"
    create_template = edit_template = "admin/providers/form.html"
    details_template = "admin/providers/details.html"
    choices = (
        Choice("kind", _("Kind"), list(KIND_NAMES.items())),
        Choice("state", _("State"), [("enabled", _("Enabled")), ("disabled", _("Disabled"))]),
    )

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        if kind := self.chosen("kind"):
            query = query.filter(Provider.kind == kind)
        if state := self.chosen("state"):
            query = query.filter(Provider.is_enabled == (state == "enabled"))
        return query

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """How many models each of them serves."""
        counted = (
            select(Deployment.provider_id, func.count())
            .where(Deployment.provider_id.in_([row.id for row in rows]))
            .group_by(Deployment.provider_id)
        )
        return {"model_counts": dict(db.session.execute(counted).tuples().all())}

    def record(self, row: Provider, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        return {"models": extras["model_counts"].get(row.id, 0), "has_credential": row.credential is not None}

    def details(self, row: Provider) -> Mapping[str, Any]:
        """Its models, and what may be shown of its credential."""
        mine = select(Deployment.model_id).where(Deployment.provider_id == row.id)
        models = select(Model).where(Model.id.in_(mine)).order_by(Model.name)
        return {
            "models": db.session.scalars(models.limit(NAMED_MODELS)).all(),
            "credential": credential_hint(row),
            "why_kept": self.why_kept(row),
            "settings": settings_shown(row),
        }

    def create_form(self, obj: Any = None) -> Any:
        """See Flask-Admin."""
        form = ProviderForm(self.given())
        del form.no_credential
        return form

    def edit_form(self, obj: Any = None) -> Any:
        """See Flask-Admin."""
        form = ProviderForm(self.given(), data=shown(obj))
        if obj.credential is None:
            del form.no_credential
        form.credential.description = gettext(
            "Stored: %(hint)s. Leave empty to keep it.", hint=credential_hint(obj) or gettext("none")
        )
        return form

    def create(self, form: Any) -> Any:
        """Store a new provider, and ask it for its models when they are wanted."""
        row = Provider(managed_by="admin", settings={})
        _fill(row, form)
        if form.credential.data:
            row.credential = gateway().sealer.seal(form.credential.data)
        self._check_name(row)
        db.session.add(row)
        self.store("provider_create", row, None)
        return self._ask_if_wanted(row)

    def update(self, form: Any, row: Provider) -> Any:
        """Store what changed."""
        costmaps.locked(db.session(), Provider.id == row.id)  # clients store settings that the form does not ask for
        before = self.describe(row)
        secrets = {}
        _fill(row, form)
        if form.credential.data:
            row.credential, secrets = gateway().sealer.seal(form.credential.data), {"credential": "changed"}
        elif "no_credential" in form and form.no_credential.data:
            row.credential, secrets = None, {"credential": "removed"}
        self._check_name(row)
        self.store("provider_update", row, before, **secrets)
        return self._ask_if_wanted(row)

    def _check_name(self, row: Provider) -> None:
        with db.session.no_autoflush:
            taken = db.session.scalar(select(Provider.id).where(Provider.name == row.name))
        if taken is not None and taken != row.id:
            raise InvalidRequest(N_("There is a provider of that name already."), param="name")

    def _ask_if_wanted(self, row: Provider) -> Any:
        if row.discover and row.is_enabled:
            self._ask(row)
        return self._test(row.id) if request.form.get("then") == "test" else go(".details_view", id=row.id)

    @expose("/refresh/", methods=("POST",))
    def refresh_view(self) -> Any:
        """Ask the provider which models it has, now; of one that does not offer them all, they are chosen."""
        row = self.row()
        if not row.discover:
            return go("models.offers_view", provider=row.id)
        self._ask(row)
        audit.note(db.session(), actor(), "provider_refresh", "provider", row.id, {"problem": row.discovery_error})
        db.session.commit()
        return go(".details_view", id=row.id)

    @expose("/test/", methods=("POST",))
    def test_view(self) -> Any:
        """Whether the provider answers and takes its key, said in words."""
        return self._test(self.row().id)

    def _test(self, number: int) -> Any:
        db.session.rollback()  # nothing may stay locked while the provider thinks
        finding = gateway().checks.look(number)
        audit.note(db.session(), actor(), "provider_test", "provider", number, {"finding": finding.code})
        db.session.commit()
        flash(providerwords.translated(finding), "success" if finding.is_good else "danger")
        return go(".details_view", id=number)

    def _ask(self, row: Provider) -> None:
        counted = select(func.count()).where(Deployment.provider_id == row.id)
        before = db.session.scalar(counted) or 0
        db.session.rollback()  # nothing may stay locked while the provider thinks
        problem = gateway().discovery.ask(row.id)
        row.discovered_at = datetime.now(UTC)
        db.session.commit()
        self.settled()
        after = db.session.scalar(counted) or 0
        if problem is not None:
            flash(gettext("Its models could not be listed: %(problem)s", problem=problem), "danger")
        else:
            flash(gettext("It now serves %(after)s models; before: %(before)s.", after=after, before=before), "success")

    def why_fixed(self, row: Provider) -> str | None:
        """Rows of the environment and of the configuration file follow their source."""
        return source_of(row.managed_by)

    def consequences(self, row: Provider) -> list[str]:
        """Which models lose a deployment, by name."""
        others = select(Deployment.model_id).where(Deployment.provider_id != row.id)
        mine = (
            select(Model.name, Model.id.in_(others), Model.managed_by == "discovery")
            .join(Deployment)
            .where(Deployment.provider_id == row.id)
            .distinct()
            .order_by(Model.name)
        )
        found = db.session.execute(mine).tuples().all()
        remaining = [name for name, has_others, _is_found in found if has_others]
        stranded = [name for name, has_others, is_found in found if not has_others and not is_found]
        gone = [name for name, has_others, is_found in found if not has_others and is_found]
        sentences = (
            (_("These models lose a deployment and keep others: %(names)s."), remaining),
            (_("These models lose their only deployment and answer no more: %(names)s."), stranded),
            (_("These models were found at this provider only and go with it: %(names)s."), gone),
        )
        return [str(sentence) % {"names": shortened(names)} for sentence, names in sentences if names]

    def delete(self, session: Session, row: Provider) -> None:
        """The provider, its deployments with their prices, and models that only it had brought."""
        modelbook.remove_provider(session, row.id)

    def describe(self, row: Provider) -> dict[str, Any]:
        """See Table."""
        return {
            "name": row.name,
            "kind": row.kind,
            "base_url": row.base_url,
            "settings": dict(row.settings),
            "has_credential": row.credential is not None,
            "discover": row.discover,
            "is_enabled": row.is_enabled,
        }


def settings_shown(row: Provider) -> list[tuple[str, str]]:
    """A provider's vendor and those of its settings that are set, with their labels."""
    found = []
    if (vendor := vendor_of(row)) != "":
        found.append((gettext("Vendor"), gettext(VENDORS[vendor].label)))
    for name, label in COMMON_LABELS.items():
        if (value := row.settings.get(name)) is not None:
            found.append((gettext(label), ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    for setting in KINDS[row.kind].settings if row.kind in KINDS else ():
        if (value := row.settings.get(setting.name)) not in (None, ""):
            yes_or_no = gettext("yes") if value else gettext("no")
            found.append((gettext(setting.label), yes_or_no if setting.is_flag else str(value)))
    return found


def credential_hint(row: Provider) -> str:
    """What may be shown of a provider's credential; empty = it has none."""
    if row.credential is None:
        return ""
    try:
        return masked(gateway().sealer.open(row.credential)) or gettext("none")
    except SealBroken:
        return gettext("sealed with a key that is no longer known; enter it again")


def shortened(names: list[str], longest: int = 20) -> str:
    """The names, or as many as one cares to read."""
    more = len(names) - longest
    return ", ".join(names[:longest]) + (f" … (+{more})" if more > 0 else "")


def _fill(row: Provider, form: Any) -> None:
    row.kind, row.name, row.discover, row.is_enabled = (
        form.kind.data,
        form.name.data,
        form.discover.data,
        form.is_enabled.data,
    )
    row.base_url = KINDS[row.kind].base_url if KINDS[row.kind].is_local else form.base_url.data
    row.settings = settings_from(form, row.settings)
    _check_settings(row)


def _check_settings(row: Provider) -> None:
    """Refuse settings that calls could not use, at their field of the form, as the configuration file does."""
    if (check := KINDS[row.kind].check) is None:
        return
    try:
        check(row.settings)
    except InvalidRequest as exc:
        setting = (exc.param or "").removeprefix("settings.").partition(".")[0]
        raise InvalidRequest(str(exc), param=f"{row.kind}_{setting}") from exc
