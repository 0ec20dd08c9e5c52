"""How values look: moments, money, numbers, icons. Filters and functions of the templates."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import flask_bootstrap
from babel import Locale
from babel.dates import format_timedelta
from babel.numbers import format_compact_decimal
from flask import Flask, current_app, request, url_for
from flask_babel import format_decimal, format_percent
from markupsafe import Markup, escape

from routes import assets, words
from routes.admin import examples, guard, openid, signin, steps
from routes.admin.budgets import LEVEL_NAMES
from routes.admin.catalog import MANAGERS
from routes.admin.forms import KIND_NAMES, PERIOD_NAMES, ROLE_NAMES, UNIT_NAMES
from routes.admin.invitations import STATES as INVITATION_STATES
from routes.admin.keys import STATES as KEY_STATES
from routes.admin.keys import state_of
from routes.admin.limits import LAYER_NAMES, what_of
from routes.admin.logs import ENTRY_KINDS, REASONS
from routes.admin.overview import change
from routes.admin.owned import PAGES
from routes.admin.prices import LINES, lines_of, price_of
from routes.admin.usage import OUTCOMES
from routes.admin.usage import STATES as USAGE_STATES
from routes.admin.users import STATES as USER_STATES
from routes.admin.users import state_of as user_state_of
from services import budgets, restrictions
from services.pricing import PER_UNIT
from services.providers.kinds import KINDS
from utils import money
from utils.extensions import gateway

ICONS: Final = Path(flask_bootstrap.__file__).parent / "static/bootstrap5/icons/bootstrap-icons.svg"
SHORT_FROM: Final = 10_000  # smaller counts take no more room with all their digits
SHORT_CASH_FROM: Final = 100_000 * money.NANO_PER_USD  # smaller sums fit a card of a phone
RELATIVE_FOR: Final = timedelta(days=30)
DASH: Final = "–"  # noqa: RUF001 - it is meant
TONES: Final = {"ok": "good", "client_gone": "quiet", "drained": "quiet", "recovered": "warn"}
KEY_TONES: Final = {"active": "good", "expired": "warn", "disabled": "quiet", "revoked": "quiet"}
INVITATION_TONES: Final = {"open": "good", "used": "quiet", "expired": "warn"}
USER_TONES: Final = {"active": "good", "expired": "warn", "disabled": "quiet"}
LEVEL_TONES: Final = {"ok": "good", "warning": "warn", "exhausted": "bad"}
STATE_TONES: Final = {"measured": "quiet", "estimated": "warn", "void": "quiet"}
PRICES: Final = SimpleNamespace(names=LINES, lines=lines_of, of=price_of, per_unit=PER_UNIT, per_1k=money.usd_per_1k)
NANO_DIGITS: Final = 9
FEW_DIGITS: Final = 10**18
CASH_DIGITS: Final = ((money.NANO_PER_USD, 2), (1_000_000, 4), (1_000, 6), (0, NANO_DIGITS))  # from that amount on
TABLES: Final = {  # names and colours by value
    "themes": signin.THEMES,
    "languages": signin.LANGUAGES,
    "levels": LEVEL_NAMES,
    "level_tones": LEVEL_TONES,
    "user_states": USER_STATES,
    "user_tones": USER_TONES,
    "tones": TONES,
    "invitation_states": INVITATION_STATES,
    "invitation_tones": INVITATION_TONES,
    "key_tones": KEY_TONES,
    "state_tones": STATE_TONES,
    "key_states": KEY_STATES,
    "outcomes": OUTCOMES,
    "usage_states": USAGE_STATES,
    "entry_kinds": ENTRY_KINDS,
    "reasons": REASONS,
    "managers": MANAGERS,
    "kinds": KIND_NAMES,
    "provider_kinds": KINDS,
    "roles": ROLE_NAMES,
    "units": UNIT_NAMES,
    "periods": PERIOD_NAMES,
    "prices": PRICES,
    "scopes": LAYER_NAMES,
    "owner_pages": PAGES,
}


def register(app: Flask, views: Sequence[Any], groups: Sequence[str | None]) -> None:
    """Make them known to the templates: filters, and everything else as a member of `ui`.

    `groups`: those of the sidebar, in order.
    """
    filters = (ago, utc, usd, exact_usd, cash, short_cash, num, short, percent, ms, said)
    app.jinja_env.filters.update({one.__name__: one for one in filters})
    app.jinja_env.filters["path"] = restrictions.show_path
    app.jinja_env.globals["ui"] = SimpleNamespace(
        asset=partial(assets.address, "static"),
        bootstrap=partial(assets.address, "bootstrap.static"),
        nav=partial(_sidebar, views, groups),
        tabs=partial(_tabs, views),
        icon=icon,
        nonce=guard.nonce,
        person=guard.person,
        may_change=guard.may_change,
        may_look=guard.may_look,
        came_from=guard.came_from,
        is_inside=guard.is_inside,
        openid_name=openid.name,
        may_join=lambda: gateway().config.registration_mode != "closed",
        theme=signin.theme,
        language=lambda: str(words.locale()),
        state_of=state_of,
        share=budgets.share,
        level=budgets.level,
        what_of=what_of,
        user_state_of=user_state_of,
        change=change,
        steps=steps.found,
        examples=examples,
        way_back=steps.way_back,
        page=page,
        list_here=partial(_list_here, views),
        **TABLES,
    )


def _is_listed(view: Any) -> bool:
    return bool(view.is_visible() and getattr(view, "is_listed", True))


def _sidebar(views: Sequence[Any], groups: Sequence[str | None]) -> list[tuple[str | None, list[Any]]]:
    """The views that the person has, by group, each in the order in which it was added, but those kept off it."""
    who = guard.person()
    listed = [view for view in views if who is not None and view.is_for(who) and _is_listed(view)]
    others = dict.fromkeys(view.category for view in listed if view.category not in groups)
    found = ((group, [view for view in listed if view.category == group]) for group in (*groups, *others))
    return [(group, members) for group, members in found if members]


def _list_here(views: Sequence[Any]) -> str | None:
    """The address of the list that what was asked for belongs to, if the person has it and did not ask for it."""
    who, endpoint = guard.person(), f"{request.blueprint}.index_view"
    has_it = any(who is not None and view.endpoint == request.blueprint and view.is_for(who) for view in views)
    is_there = request.endpoint == endpoint or endpoint not in current_app.view_functions
    return url_for(endpoint) if has_it and not is_there else None


def _tabs(views: Sequence[Any]) -> list[Any]:
    """The pages of the portal that the person reads by tabs: those that the menu leaves out."""
    who = guard.person()
    own = [view for view in views if getattr(view, "is_own", False) and who is not None and view.is_tab_of(who)]
    return own if any(who is not None and not view.is_for(who) for view in own) else []


def page(name: str, number: int) -> str:
    """The address of the page of a row, by the name of its table's pages."""
    return _page(request.script_root, name, number)


@lru_cache(4096)  # a list links to the same few people and keys in every row
def _page(_root: str, name: str, number: int) -> str:
    return url_for(f"{name}.details_view", id=number)


def utc(moment: datetime | int | None) -> str:
    """A moment to the second, in UTC; a number is taken as seconds since 1970."""
    if moment is None:
        return DASH
    aware = datetime.fromtimestamp(moment, UTC) if isinstance(moment, int) else moment
    return f"{aware:%Y-%m-%d %H:%M:%S} UTC"


def ago(moment: datetime | int | None) -> str | Markup:
    """How long ago, or in how long, with the exact moment in the title; a date when it is far away."""
    if moment is None:
        return DASH
    aware = datetime.fromtimestamp(moment, UTC) if isinstance(moment, int) else moment
    distance = aware - datetime.now(UTC)
    is_near = abs(distance) < RELATIVE_FOR
    text = _distance(int(distance.total_seconds()), words.locale()) if is_near else f"{aware:%Y-%m-%d}"
    exact = aware.isoformat(timespec="seconds")
    day, second = exact[:10], exact[11:19]
    return Markup(f'<time datetime="{exact}" title="{day} {second} UTC">{escape(text)}</time>')  # noqa: S704 - see `cash`


@lru_cache(4096)  # most rows of a list are as old as their neighbours
def _distance(seconds: int, locale: Locale | None) -> str:
    return format_timedelta(seconds, add_direction=True, threshold=1.2, locale=locale)


def usd(nanousd: int | None) -> str:
    """Money, exactly."""
    return DASH if nanousd is None else money.show_usd(nanousd)


def exact_usd(amount: Decimal) -> str:
    """Money with all the digits it has, at least two of them after the point."""
    whole, _point, fraction = f"{amount:f}".partition(".")
    return f"${int(whole):,}.{fraction.rstrip('0').ljust(2, '0')}"


def cash(nanousd: int | None) -> str | Markup:
    """Money as one cares to read it in a list: cents, or more digits below a dollar; exactly in the title."""
    if nanousd is None:
        return DASH
    digits = next(digits for least, digits in CASH_DIGITS if abs(nanousd) >= least)
    step = 10 ** (NANO_DIGITS - digits)
    rounded = (abs(nanousd) + step // 2) // step * step * (1 if nanousd >= 0 else -1)
    if rounded == nanousd:
        return money.show_usd(nanousd)
    title, text = money.show_usd(nanousd), money.show_usd(rounded)
    return Markup(f'<span title="{title}">{text}</span>')  # noqa: S704 - digits; formatting Markup takes four times as long


def short_cash(nanousd: int | None) -> str | Markup:
    """Money as one cares to read it in a figure: as in a list, but $1.23M where it is large; exactly in the title."""
    if nanousd is None or abs(nanousd) < SHORT_CASH_FROM:
        return cash(nanousd)
    dollars = abs(nanousd) // money.NANO_PER_USD
    text = format_compact_decimal(dollars, format_type="short", locale=words.locale(), fraction_digits=2)
    sign = "-" if nanousd < 0 else ""
    return Markup('<span title="{}">{}${}</span>').format(money.show_usd(nanousd), sign, text)


def num(number: float | None) -> str:
    """A count, or the middle of an axis, with the separators of the language; a dash where nobody said."""
    if number is not None and abs(number) >= FEW_DIGITS:  # typed into a form; babel's decimals end somewhere
        return str(number)
    if number is None:
        return DASH
    return _local(f"{number:,}") if isinstance(number, int) else str(format_decimal(number))


def short(number: int | None) -> str | Markup:
    """A count as one cares to read it in a list: 12.3K, 4.5M, with all its digits in the title."""
    if number is None or abs(number) < SHORT_FROM:
        return num(number)
    text = format_compact_decimal(number, format_type="short", locale=words.locale(), fraction_digits=1)
    return Markup('<span title="{}">{}</span>').format(num(number), text)


def said(names: Mapping[Any, Any]) -> dict[Any, str]:
    """A table of names in the language of the request, each of which is translated once and not in every row."""
    return {value: str(name) for value, name in names.items()}


def percent(part: float | None, *, signed: bool = False) -> str:
    """A share as a percentage."""
    if part is None:
        return DASH
    shown = str(format_percent(part, "#,##0.#%" if abs(part) < 0.1 else "#,##0%"))  # noqa: PLR2004 - small ones need a digit
    return f"+{shown}" if signed and part > 0 else shown


def ms(duration: int | None) -> str:
    """A duration as people say it."""
    if duration is None:
        return DASH
    return f"{_local(f'{duration:,}')} ms" if duration < 1000 else f"{_local(f'{duration / 1000:,.2f}')} s"  # noqa: PLR2004 - milliseconds of a second


def _local(digits: str) -> str:
    """Digits with the marks of the language; babel's own formatting takes ten times as long, and lists have many."""
    marks = _marks(words.locale())
    return digits.translate(marks) if marks else digits


@cache
def _marks(locale: Locale | None) -> dict[int, str]:
    """What to write for the marks of English; empty where they are the same."""
    marks = locale.number_symbols["latn"] if locale else {"decimal": "."}
    return {} if marks["decimal"] == "." else {ord(","): marks["group"], ord("."): marks["decimal"]}


@cache
def icon(name: str, label: str = "") -> Markup:
    """One of Bootstrap's icons, drawn in place; without a label it is decoration.

    Raises:
        KeyError: there is no such icon.
    """
    found = re.search(
        rf'<symbol class="[^"]*" viewBox="([^"]*)" id="{re.escape(name)}">(.*?)</symbol>', _icons(), re.DOTALL
    )
    if found is None:
        raise KeyError(name)
    meaning = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    drawing = Markup(found[2])  # noqa: S704 - from the installed package, not from anybody's input
    return Markup('<svg class="icon" viewBox="{}" fill="currentColor" {}>{}</svg>').format(found[1], meaning, drawing)


def _icons() -> str:
    return ICONS.read_text(encoding="utf-8")
