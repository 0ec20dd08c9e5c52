"""The first page: how much goes through, what goes wrong, and what to do first."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select

from models import Model, Provider
from routes.admin import owned
from routes.admin.guard import SecureView, expose
from routes.admin.secrets import base_url
from services import budgets, reports
from services.reports import Activity, Sums
from utils import clock
from utils.extensions import db, gateway

LATEST_CALLS: Final = 8
SHOWN_BUDGETS: Final = 5
CHART_HEIGHT: Final = 100
BAR_WIDTH: Final = 10
GAP: Final = 3
NICE_TOPS: Final = (4, 6, 8, 10, 12, 16, 20, 30)  # times a power of ten; even, since the middle is labelled too


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour of the chart, in its own units: failed calls stand on top of the good ones."""

    start: datetime
    sums: Sums
    x: int
    good_height: float
    failed_height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and the number of calls that the top of the chart stands for."""

    bars: tuple[Bar, ...]
    top: int
    width: int


class Overview(SecureView):
    """The first page."""

    icon = "speedometer2"

    @expose("/")
    def index(self) -> Any:
        """Sums of the last day, the chart, budgets near their end, the latest calls, the providers."""
        here = gateway()
        activity = reports.activity(here.engine, clock.now_ms())
        latest = reports.latest_calls(here.engine, LATEST_CALLS)
        near = budgets.nearly_spent(here.engine, SHOWN_BUDGETS)
        providers = db.session.scalars(select(Provider).order_by(Provider.name)).all()
        has_own = any(provider.kind != "echo" for provider in providers)
        model = db.session.scalar(
            select(Model.name).where(Model.is_enabled).order_by(Model.name == "echo", Model.id).limit(1)
        )
        return self.render(
            "admin/overview.html",
            activity=activity,
            chart=chart_of(activity),
            calls=latest,
            names=reports.names(here.engine, [call.user_id for call in latest], [call.key_id for call in latest]),
            providers=providers,
            nearly_spent=near,
            owners=owned.names_of([state.budget for state in near]),
            has_own=has_own,
            model="echo" if here.config.has_echo and not has_own else model or "MODEL",
            base_url=base_url(),
        )


def chart_of(activity: Activity) -> Chart:
    """The calls per hour as bars."""
    top = nice_top(max(sums.calls for _start, sums in activity.hours))
    bars = tuple(
        Bar(
            datetime.fromtimestamp(start / 1000, UTC),
            sums,
            x=place * (BAR_WIDTH + GAP),
            good_height=(sums.calls - sums.failed) / top * CHART_HEIGHT,
            failed_height=sums.failed / top * CHART_HEIGHT,
        )
        for place, (start, sums) in enumerate(activity.hours)
    )
    return Chart(bars, top, len(bars) * (BAR_WIDTH + GAP) - GAP)


def nice_top(most: int) -> int:
    """The smallest round number that holds the tallest bar."""
    scale = 1
    while max(NICE_TOPS) * scale < most:
        scale *= 10
    return next(top * scale for top in NICE_TOPS if top * scale >= most)


def change(now: float, before: float) -> float | None:
    """By how much something changed, as a share; None = there is nothing to compare with."""
    return (now - before) / before if before else None
