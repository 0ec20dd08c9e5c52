"""Providers: the upstream accounts, their credentials (written, never shown), and asking for their models."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from flask import flash
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from wtforms import BooleanField, SelectField
from wtforms.validators import InputRequired, Length, ValidationError

from models import Deployment, Model, Price, Provider
from routes.admin.forms import KIND_NAMES, PanelForm, SecretField, TextField, options
from routes.admin.guard import actor, expose, go
from routes.admin.tables import Choice, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import audit, owners
from services.addresses import is_forbidden
from services.credentials import SealBroken, masked
from services.errors import InvalidRequest, UpstreamError
from services.transport import origin_of
from utils.extensions import db, gateway

_ = lazy_gettext

ECHO_URL: Final = "echo:"
LONGEST_CREDENTIAL: Final = 4096
NAMED_MODELS: Final = 200


class ProviderForm(PanelForm):
    """An upstream account."""

    kind = SelectField(
        _("Kind"),
        choices=options(
            {
                "openai": _("OpenAI, or anything compatible"),
                "ollama": "Ollama",
                "echo": _("Echo: answers by itself, for trying things out"),
            }
        ),
    )
    name = TextField(_("Name"), [InputRequired(), Length(1, 100)])
    base_url = TextField(
        _("Base URL"),
        [Length(0, 500)],
        description=_("For example https://api.openai.com/v1 or http://localhost:11434."),
    )
    credential = SecretField(_("API key of the provider"), [Length(0, LONGEST_CREDENTIAL)])
    no_credential = BooleanField(_("Remove the stored key"))
    organization = TextField(
        _("Organization"), [Length(0, 200)], description=_("Sent as OpenAI-Organization; usually empty.")
    )
    discover = BooleanField(_("Offer every model that it lists"))
    is_enabled = BooleanField(_("Enabled"), default=True)

    def validate_base_url(self, field: Any) -> None:
        """The address must be one that calls can go to."""
        if self.kind.data == "echo":
            return
        try:
            origin = origin_of(field.data or "")
        except UpstreamError as exc:
            raise ValidationError(gettext("This must read http(s)://host[:port][/path] and nothing else.")) from exc
        if is_forbidden(origin.host):
            raise ValidationError(gettext("Nothing is ever called there: it is link-local, metadata or reserved."))

    def validate_credential(self, field: Any) -> None:
        """It goes into a header."""
        if field.data and not (field.data.isascii() and field.data.isprintable()):
            raise ValidationError(gettext("An API key has only ASCII letters, digits and signs."))


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
    list_template = "admin/providers/list.html"
    create_template = edit_template = "admin/providers/form.html"
    details_template = "admin/providers/details.html"
    choices = (
        Choice("kind", _("Kind"), list(KIND_NAMES.items())),
        Choice("state", _("State"), [("enabled", _("Enabled")), ("disabled", _("Disabled"))]),
    )

    def get_query(self) -> Any:
        """The rows of the list, narrowed."""
        return self._narrowed(super().get_query())

    def get_count_query(self) -> Any:
        """How many they are."""
        return self._narrowed(super().get_count_query())

    def _narrowed(self, query: Any) -> Any:
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

    def details(self, row: Provider) -> Mapping[str, Any]:
        """Its models, and what may be shown of its credential."""
        models = select(Model).join(Deployment).where(Deployment.provider_id == row.id).order_by(Model.name)
        return {
            "models": db.session.scalars(models.distinct().limit(NAMED_MODELS)).all(),
            "credential": credential_hint(row),
            "why_kept": self.why_kept(row),
        }

    def create_form(self, obj: Any = None) -> ProviderForm:
        """See Flask-Admin."""
        form = ProviderForm(self.given())
        del form.no_credential
        return form

    def edit_form(self, obj: Any = None) -> ProviderForm:
        """See Flask-Admin."""
        given = self.given()
        shown = {name: getattr(obj, name) for name in ("kind", "name", "base_url", "discover", "is_enabled")}
        form = ProviderForm(given, data=shown | {"organization": obj.settings.get("organization", "")})
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
        return go(".details_view", id=row.id)

    @expose("/refresh/", methods=("POST",))
    def refresh_view(self) -> Any:
        """Ask the provider which models it has, now."""
        row = self.row()
        self._ask(row)
        audit.note(db.session(), actor(), "provider_refresh", "provider", row.id, {"problem": row.discovery_error})
        db.session.commit()
        return go(".details_view", id=row.id)

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
        mine = select(Deployment.id).where(Deployment.provider_id == row.id)
        touched = list(session.scalars(select(Deployment.model_id).where(Deployment.provider_id == row.id)))
        session.execute(delete(Price).where(Price.deployment_id.in_(mine)))
        session.execute(delete(Deployment).where(Deployment.provider_id == row.id))
        stranded = (Model.id.in_(touched), Model.managed_by == "discovery", ~Model.id.in_(select(Deployment.model_id)))
        session.execute(delete(Price).where(Price.model_id.in_(select(Model.id).where(*stranded))))
        owners.forget(session, "model", select(Model.id).where(*stranded))
        session.execute(delete(Model).where(*stranded).execution_options(synchronize_session=False))
        session.execute(delete(Provider).where(Provider.id == row.id))

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


def source_of(managed_by: str) -> str | None:
    """Why a row that is managed elsewhere cannot be changed here."""
    if managed_by == "file":
        return gettext("This comes from the configuration file; change it there.")
    if managed_by == "environment":
        return gettext("This comes from the environment of the gateway; change it there.")
    return None


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
    row.base_url = ECHO_URL if row.kind == "echo" else form.base_url.data
    kept = {name: value for name, value in row.settings.items() if name != "organization"}
    row.settings = kept | ({"organization": form.organization.data} if form.organization.data else {})
