"""The first page: how much goes through, what it costs, what goes wrong, and what to do first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from models import Provider
from routes.admin import charts, owned, ranges
from routes.admin.guard import SecureView, expose
from routes.admin.texts import lazy_gettext
from services import Gateway, activity, budgets, caching, delays, healthview, reports
from services.activity import BEFORE, NOW, Activity, Sums
from utils.extensions import db, gateway

_ = lazy_gettext

LATEST_CALLS: Final = 8
SHOWN_BUDGETS: Final = 5
RANKED: Final = 5
STATES: Final = {  # of a provider, as services/health.py names them: words and colour
    "healthy": (_("healthy"), "good"),
    "half_open": (_("on trial"), "warn"),
    "open": (_("left alone"), "bad"),
}


@dataclass(frozen=True, slots=True)
class Delay:
    """A percentile of this period and of the one before, in milliseconds; None = no call."""

    now: float | None
    before: float | None


class Overview(SecureView):
    """The first page."""

    icon = "speedometer2"

    @expose("/")
    def index(self) -> Any:
        """Figures of the chosen time, spend, who and what spends most, budgets near their end, the latest calls."""
        here, wanted = gateway(), ranges.chosen()
        found = activity.activity(here.engine, wanted.period)
        latest = reports.latest_calls(here.engine, LATEST_CALLS)
        near = budgets.nearly_spent(here.engine, SHOWN_BUDGETS)
        providers = db.session.scalars(select(Provider).order_by(Provider.name)).all()
        return self.render(
            "admin/overview.html",
            range=wanted,
            presets=ranges.PRESETS,
            found=found,
            delays=_delays(found),
            chart=charts.stacked(found.slots, found.models),
            ranks=_ranks(found),
            calls=latest,
            names=_names(here, found, latest),
            providers=providers,
            health=_health(here),
            states=STATES,
            nothing=Sums(),
            cache=caching.figures(here.metrics.all()),
            nearly_spent=near,
            owners=owned.names_of([state.budget for state in near]),
        )


def change(now: float, before: float) -> float | None:
    """By how much something changed, as a share; None = there is nothing to compare with."""
    return (now - before) / before if before else None


def _ranks(found: Activity) -> Mapping[str, Sequence[tuple[Any, Sums]]]:
    """The models, users and keys that come first."""
    return {name: getattr(found, name)[:RANKED] for name in ("models", "users", "keys")}


def _delays(found: Activity) -> Mapping[str, Delay]:
    """How long calls took, and how long the first token did."""
    wanted = {"p50": ("duration", 0.5), "p95": ("duration", 0.95), "first": ("first_byte", 0.95)}
    return {
        name: Delay(*(delays.percentile_ms(found.delays.get((which, metric), {}), part) for which in (NOW, BEFORE)))
        for name, (metric, part) in wanted.items()
    }


def _names(here: Gateway, found: Activity, latest: Sequence[Any]) -> reports.Names:
    users = [*(call.user_id for call in latest), *(number for number, _sums in found.users[:RANKED])]
    return reports.names(
        here.engine, users, [*(call.key_id for call in latest), *(number for number, _sums in found.keys[:RANKED])]
    )


def _health(here: Gateway) -> Mapping[int, Mapping[str, Any]]:
    """What this worker knows of each provider."""
    models = here.catalog.snapshot().models.values()
    deployments = (deployment for model in models for deployment in model.deployments)
    return healthview.of_providers(deployments, here.health.report())
