"""Models: the public names, which deployments serve them, and what they cost."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload, selectinload
from wtforms import BooleanField, FieldList, FormField, IntegerField, SelectField
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError

from models import Deployment, Model, Provider
from routes.admin import bound, bulk, prices, routed
from routes.admin.forms import MAX_TOKENS, PanelForm, TextField, options
from routes.admin.guard import go
from routes.admin.managed import source_of
from routes.admin.offers import OfferPages
from routes.admin.tables import Choice
from routes.admin.texts import gettext, lazy_gettext
from services import caching, modelbook, modelnames, pricebook, reports
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

MOST_DEPLOYMENTS: Final = 20
OWN_FIELDS: Final = ("name", "is_enabled", "context_window", "max_output_tokens")  # of the form and of the row alike
MANAGERS: Final = {
    "admin": _("Panel"),
    "file": _("Configuration file"),
    "environment": _("Environment"),
    "discovery": _("Discovery"),
}


class DeploymentForm(PanelForm):
    """One upstream that serves the model. A row without an upstream model does not count."""

    provider_id = SelectField(_("Provider"), coerce=int)
    upstream_model = TextField(_("Model at the provider"), [Length(0, 200)])
    priority = IntegerField(_("Priority"), [Optional(), NumberRange(0, 1000)], default=1)
    weight = IntegerField(_("Weight"), [Optional(), NumberRange(1, 1000)], default=1)


class ModelForm(bound.PolicyChoice, routed.RoutingFields):
    """A public model with everything that belongs to it."""

    name = TextField(
        _("Public name"), [InputRequired(), Length(1, 200)], description=_("What callers send as the model.")
    )
    is_enabled = BooleanField(_("Enabled"), default=True)
    deployments = FieldList(FormField(DeploymentForm), min_entries=1, max_entries=MOST_DEPLOYMENTS)
    context_window = IntegerField(_("Context window, tokens"), [Optional(), NumberRange(1, MAX_TOKENS)])
    max_output_tokens = IntegerField(_("Most output tokens of a call"), [Optional(), NumberRange(1, MAX_TOKENS)])
    fallbacks = TextField(
        _("Fallbacks"),
        [Length(0, 1000)],
        description=_("Other public names, separated by commas, tried in this order when all deployments fail."),
    )

    def validate_deployments(self, field: Any) -> None:
        """At least one, and none twice."""
        found = [(entry.provider_id.data, entry.upstream_model.data) for entry in field if entry.upstream_model.data]
        if not found:
            raise ValidationError(gettext("A model needs a deployment."))
        if len(set(found)) < len(found):
            raise ValidationError(gettext("The same deployment is there twice."))

    def fallback_names(self) -> list[str]:
        """The fallbacks in order, each once."""
        return list(dict.fromkeys(name.strip() for name in (self.fallbacks.data or "").split(",") if name.strip()))


class Models(OfferPages):
    """The public models."""

    model_class = Model
    icon, singular, resource = "cpu", "Model", "model"
    column_list = ("name", "providers", "cost_prompt", "cost_completion", "context_window", "state", "updated_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Model"),
        "providers": _("Providers"),
        "cost_prompt": _("Cost/1K prompt"),
        "cost_completion": _("Cost/1K completion"),
        "context_window": _("Context"),
        "state": _("State"),
        "updated_at": _("Changed"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name", "updated_at"]
    column_default_sort = "name"
    column_searchable_list = ("name",)  # and the names of providers, see below
    many = (
        *bulk.switches(
            off=[_("Calls to them are refused from then on. Discovered models are the panel's from then on.")],
            on=[_("Calls to them are answered again at once.")],
        ),
        bulk.delete(_("Calls to them are refused from then on."), _("Usage and ledger entries stay.")),
    )
    switched = ("is_enabled", "managed_by")
    exported = (
        *("id", "name", "providers", "upstream_models", "price_source", "price_input_usd", "price_output_usd"),
        *("context_window", "max_output_tokens", "is_enabled", "managed_by", "fallbacks", "aliases"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "providers": ("providers", "upstream_models"),
        "cost_prompt": ("price_source", "price_input_usd", "price_output_usd"),
        "state": ("is_enabled",),
    }
    list_template = "admin/models/list.html"
    create_template = edit_template = "admin/models/form.html"
    details_template = "admin/models/details.html"
    choices = (
        Choice("managed_by", _("Managed by"), list(MANAGERS.items())),
        Choice(
            "state", _("State"), [("enabled", _("Enabled")), ("disabled", _("Disabled")), ("unpriced", _("No price"))]
        ),
    )

    def get_query(self) -> Any:
        """The rows of the list, with deployments, providers and prices in four statements."""
        served = selectinload(Model.deployments).joinedload(Deployment.provider)
        return super().get_query().options(served, selectinload(Model.prices))

    def _apply_search(self, query: Any, count_query: Any, joins: Any, count_joins: Any, search: str) -> Any:
        """See Table; a model is found by its providers too."""
        at = Provider.name.icontains(search, autoescape=True)
        served = select(Deployment.model_id).join(Provider).where(at)
        found = or_(Model.name.icontains(search, autoescape=True), Model.id.in_(served))
        return query.filter(found), count_query.filter(found) if count_query is not None else None, joins, count_joins

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        if manager := self.chosen("managed_by"):
            query = query.filter(Model.managed_by == manager)
        state = self.chosen("state")
        if state == "unpriced":
            return query.filter(prices.is_unpriced())
        return query.filter(Model.is_enabled == (state == "enabled")) if state else query

    def record(self, row: Model, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported. Prices are USD per million tokens."""
        price = prices.price_of(row)
        rates = {name: getattr(price, f"{name}_rate", None) for name in ("input", "output")}
        return {
            "providers": [one.provider.name for one in row.deployments],
            "upstream_models": [one.upstream_model for one in row.deployments],
            "price_source": price and price.source,
            **{f"price_{name}_usd": None if rate is None else f"{money.usd(rate):f}" for name, rate in rates.items()},
        }

    def switch_off(self, row: Model, reason: str) -> None:
        """See Table; a discovered model is the panel's from then on, as when it is edited."""
        self.change(row, {"is_enabled": False, "managed_by": "admin"})

    def switch_on(self, row: Model, reason: str) -> None:
        """The same the other way."""
        self.change(row, {"is_enabled": True, "managed_by": "admin"})

    def details(self, row: Model) -> Mapping[str, Any]:
        """Deployments with their providers, and the price of each."""
        mine = select(Deployment).where(Deployment.model_id == row.id).options(joinedload(Deployment.provider))
        deployments = db.session.scalars(mine.order_by(Deployment.priority, Deployment.id)).all()
        calls = reports.read_page(gateway().engine, reports.usage_walk(reports.UsageFilter(model=row.name)), size=10)
        return {
            "deployments": deployments,
            "tiers": prices.tiers_of(row),
            "history": prices.history_of(row),
            "calls": calls.rows,
            "names": reports.names(
                gateway().engine, [call.user_id for call in calls.rows], [call.key_id for call in calls.rows]
            ),
            "why_kept": self.why_kept(row),
            "cache": caching.figures(gateway().metrics.all(), row.name),
            "policy": bound.policy_of(row),
        }

    def create_form(self, obj: Any = None) -> ModelForm:
        """See Flask-Admin."""
        return _offer(ModelForm(self.given()))

    def edit_form(self, obj: Any = None) -> ModelForm:
        """See Flask-Admin."""
        given = self.given()
        form = ModelForm(
            given,
            data={name: getattr(obj, name) for name in OWN_FIELDS} | {"deployments": obj.deployments},
            fallbacks=", ".join(obj.fallbacks),
            policy=bound.chosen(obj),
            **routed.fields_of(obj),
            **prices.fields_of(prices.price_of(obj)),
        )
        if given is None and len(form.deployments) < MOST_DEPLOYMENTS:
            form.deployments.append_entry()  # an empty row, so that one more can be added without JavaScript
        return _offer(form)

    def create(self, form: Any) -> Any:
        """Store a new model."""
        row = Model(managed_by="admin", owned_by="tollhouse", fallbacks=[])
        db.session.add(row)
        self._fill(row, form)
        db.session.flush()
        bound.keep(row, form)
        self.store("model_create", row, None)
        return go(".details_view", id=row.id)

    def update(self, form: Any, row: Model) -> Any:
        """Store what changed; a discovered model is the panel's from then on."""
        before = self.describe(row)
        self._fill(row, form)
        row.managed_by = "admin"
        bound.keep(row, form)
        self.store("model_update", row, before)
        return go(".details_view", id=row.id)

    def _fill(self, row: Model, form: Any) -> None:
        with db.session.no_autoflush:
            _check_names(row, form)
            row.name, row.is_enabled, row.fallbacks = form.name.data, form.is_enabled.data, form.fallback_names()
            row.context_window, row.max_output_tokens = form.context_window.data, form.max_output_tokens.data
            routed.set_routing(row, form)
            _set_deployments(row, form)
            prices.set_price(row, form)

    def why_fixed(self, row: Model) -> str | None:
        """Rows of the environment and of the configuration file follow their source."""
        return source_of(row.managed_by)

    def why_kept(self, row: Model) -> str | None:
        """A model that its provider lists would be back in a minute."""
        if row.managed_by == "discovery" and row.deployments:
            return gettext("Its provider lists this model, so it would come back. Edit it and disable it instead.")
        return self.why_fixed(row)

    def consequences(self, row: Model) -> list[str]:
        """Who names it."""
        using = [name for name, names in db.session.execute(select(Model.name, Model.fallbacks)) if row.name in names]
        found = [gettext("Calls to it are refused from then on."), gettext("Usage and ledger entries stay.")]
        return found + ([gettext("It is a fallback of: %(names)s.", names=", ".join(using))] if using else [])

    def delete(self, session: Session, row: Model) -> None:
        """The model with its deployments, prices, budgets and limits."""
        modelbook.remove(session, row.id)

    def describe(self, row: Model) -> dict[str, Any]:
        """See Table."""
        return {
            "name": row.name,
            "is_enabled": row.is_enabled,
            "managed_by": row.managed_by,
            "deployments": [[d.provider_id, d.upstream_model, d.priority, d.weight] for d in row.deployments],
            "price": prices.describe(prices.price_of(row)),
            "context_window": row.context_window,
            "max_output_tokens": row.max_output_tokens,
            "fallbacks": list(row.fallbacks),
            "aliases": list(row.aliases or ()),
            "routing": dict(row.routing or {}),
            "policy": bound.chosen(row),
        }


def _offer(form: ModelForm) -> ModelForm:
    providers = db.session.execute(select(Provider.id, Provider.name).order_by(Provider.name)).tuples().all()
    for entry in form.deployments:
        entry.provider_id.choices = options(dict(providers))
    return bound.offer(form)


def _check_names(row: Model, form: Any) -> None:
    names = modelnames.known(db.session())
    modelnames.check_name(names, form.name.data, row.name)
    modelnames.check_fallbacks(names, form.name.data, form.fallback_names(), "fallbacks")


def _set_deployments(row: Model, form: Any) -> None:
    """The deployments of the form; those that stay keep their row and what is known of them."""
    wanted = {(entry.provider_id.data, entry.upstream_model.data): entry for entry in form.deployments}
    wanted = {key: entry for key, entry in wanted.items() if key[1]}
    gone = [d for d in row.deployments if (d.provider_id, d.upstream_model) not in wanted]
    pricebook.drop_deployments(db.session(), row, gone)
    present = {(d.provider_id, d.upstream_model): d for d in row.deployments}
    for (provider_id, upstream_model), entry in wanted.items():
        deployment = present.get((provider_id, upstream_model))
        if deployment is None:
            deployment = Deployment(provider_id=provider_id, upstream_model=upstream_model)
            row.deployments.append(deployment)
        deployment.priority = 1 if entry.priority.data is None else entry.priority.data
        deployment.weight = entry.weight.data or 1
