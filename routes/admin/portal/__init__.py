"""What people see of themselves: every page here is about the person whose browser it is, and nobody else.

The first page says what is left and when it resets, what was used, and how to begin.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from flask import abort

from routes.admin.charts import nice_top
from routes.admin.guard import admin, expose
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.secrets import base_url, example
from routes.admin.verdicts import KIND_NAMES
from services import ownkeys, ownuse, raises, reports
from services.accounts import Person
from services.activity import Sums
from services.ownuse import Use
from utils import jsonx
from utils.extensions import db, gateway

LATEST_CALLS: Final = 8
SHOWN_PARTS: Final = 6  # models or keys of a list
CHART_HEIGHT: Final = 100
BAR_WIDTH: Final = 10
GAP: Final = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the chart, in its own units."""

    day: date
    sums: Sums
    x: int
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and what the top of the chart stands for: nano-USD, or tokens where nothing cost anything."""

    bars: tuple[Bar, ...]
    top: int
    width: int
    is_cost: bool


class Portal(PortalView):
    """The first page of everybody who is no admin."""

    @staticmethod
    def is_for(found: Person) -> bool:
        """Everybody has it."""
        return True

    @expose("/")
    def index(self) -> Any:
        """What is left, what was used, the latest calls, and how to begin."""
        user, here = base.me(), gateway()
        keys = ownkeys.listed(db.session(), user.id)
        use = ownuse.of_user(here.engine, user.id)
        models = base.models_of(user)
        return self.render(
            "admin/portal/index.html",
            user=user,
            keys=[key for key in keys if ownkeys.is_working(key)],
            key_names={key.id: key.name for key in keys},
            ceilings=base.ceilings_of(user, keys),
            everywhere=here.layers.everywhere,
            use=use,
            chart=chart_of(use),
            calls=reports.latest_calls(here.engine, LATEST_CALLS, user_id=user.id),
            asked=[row for row in raises.of_user(db.session(), user.id) if row.state == raises.OPEN],
            model=example(models) or "MODEL",
            models=list(models),
            base_url=base_url(),
            most=SHOWN_PARTS,
            what=base.what,
            whose=base.whose,
        )

    @expose("/calls/")
    def calls_view(self) -> Any:
        """One's own calls, newest first, page by page along a key."""
        before = base.number() or None
        walk = reports.usage_walk(reports.UsageFilter(user_id=admin().user_id))
        page = reports.read_page(gateway().engine, walk, before=before)
        keys = ownkeys.listed(db.session(), admin().user_id)
        names = {key.id: key.name for key in keys}
        return self.render("admin/portal/calls.html", page=page, key_names=names, is_first=before is None)

    @expose("/refused/")
    def refused_view(self) -> Any:
        """One's own calls that were refused before they reached a provider, with what the caller read."""
        before = base.number() or None
        walk = reports.refusal_walk({"user_id": admin().user_id}, None)
        page = reports.read_page(gateway().engine, walk, before=before)
        names = {key.id: key.name for key in ownkeys.listed(db.session(), admin().user_id)}
        values = {"page": page, "key_names": names, "is_first": before is None, "kinds": KIND_NAMES}
        return self.render("admin/portal/refused.html", **values)

    @expose("/calls/details/")
    def call_view(self) -> Any:
        """One of one's own calls, with its price lines and what went wrong."""
        row = ownuse.find_call(db.session(), admin().user_id, base.number())
        if row is None:
            abort(404)
        keys = ownkeys.listed(db.session(), admin().user_id)
        return self.render(
            "admin/portal/call.html",
            row=row,
            bill=reports.bill(row),
            attempts=jsonx.loads(row.attempts) if row.attempts else [],
            key_names={key.id: key.name for key in keys},
        )


def chart_of(use: Use) -> Chart:
    """Money a day; tokens where the models were free."""
    is_cost = use.month.cost_nanousd > 0
    amounts = [sums.cost_nanousd if is_cost else sums.tokens for _day, sums in use.days]
    top = nice_top(max(amounts))
    bars = tuple(
        Bar(day, sums, place * (BAR_WIDTH + GAP), amount / top * CHART_HEIGHT)
        for place, ((day, sums), amount) in enumerate(zip(use.days, amounts, strict=True))
    )
    return Chart(bars, top, len(bars) * (BAR_WIDTH + GAP) - GAP, is_cost)
