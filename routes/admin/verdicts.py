"""Why a call was refused, in words: which rule, its numbers, who set it, and the ways to mend it.

A refusal comes from the table, or from a rehearsal of what would happen now; both have the same members.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from flask import url_for
from sqlalchemy import select

from models import ApiKey, Budget, Limit, Model, Team, User
from models_policies import Policy
from routes.admin.forms import PERIOD_NAMES
from routes.admin.guard import may_change
from routes.admin.limits import LAYER_NAMES
from routes.admin.texts import gettext, lazy_gettext
from services import budgets, limits
from utils.extensions import db, gateway

_ = lazy_gettext

KIND_NAMES: Final = {
    "budget": _("Budget"),
    "limit": _("Limit"),
    "models": _("List of models"),
    "model": _("Model not there"),
    "price": _("No price"),
    "content": _("Not possible"),
    "policy": _("Policy"),
    "books": _("Books away"),
    "addresses": _("List of addresses"),
    "paths": _("List of paths"),
    "expired": _("Expired"),
    "revoked": _("Key revoked"),
    "disabled": _("User disabled"),
    "other": _("Other"),
    "more": _("Only counted"),
}
SETTINGS: Final = {"minute/": "RATE_LIMIT_PER_MINUTE", "window/": "RATE_LIMIT_REQUESTS"}  # by a counter's name
LISTS: Final = (("key", ApiKey), ("user", User), ("team", Team))


@dataclass(frozen=True, slots=True)
class Asked:
    """What was refused. `details` has the numbers of services/errors.py."""

    kind: str
    rule: str
    details: dict[str, Any]
    model: str | None
    user_id: int | None
    key_id: int | None
    team_id: int | None
    message: str
    status: int
    code: str | None


@dataclass(frozen=True, slots=True)
class Fix:
    """A way to mend it. `is_dialog`: a question that opens over the page."""

    label: str
    url: str
    icon: str
    is_dialog: bool = False


@dataclass(slots=True)
class Verdict:
    """What is told of a refusal. `unit`: of its numbers, "usd" or what is counted."""

    title: str
    text: str
    layer: str | None = None
    unit: str = ""
    numbers: list[tuple[str, Any]] = field(default_factory=list)
    resets_at: datetime | None = None
    retry_after: int | None = None
    budget: budgets.State | None = None  # as it stands now
    limit: limits.State | None = None
    fixes: list[Fix] = field(default_factory=list)


def verdict_of(asked: Asked, back: str) -> Verdict:
    """The words for a refusal. `back`: the address of its page, for the forms that mend it."""
    found = WORDS.get(asked.kind, _other)(asked, back)
    if not may_change():
        found.fixes = []
    return found


def _budget(asked: Asked, back: str) -> Verdict:
    told, row = asked.details, _row(Budget, asked.rule)
    needed, limit, spent = (told.get(name) or 0 for name in ("needed", "limit", "spent"))
    if needed > limit:
        title = gettext("The call needs more than the whole budget")
        text = gettext("No waiting helps: ask for less output, or raise the budget.")
    elif spent + needed > limit:
        title = gettext("The token balance is used up") if told.get("is_prepaid") else gettext("The budget is spent")
        text = gettext("What is left is less than the call may cost at most. Nothing was sent and nothing was charged.")
    else:
        title = gettext("Calls under way hold the rest of the budget")
        text = gettext("They give back what they do not use when they end; the same call may fit a moment later.")
    found = Verdict(title, text, told.get("scope"), "usd" if told.get("unit") == "usd" else "tokens")
    labels = ("limit", gettext("Limit")), ("spent", gettext("Spent")), ("held", gettext("Held by calls under way"))
    found.numbers = [(label, told.get(name)) for name, label in (*labels, ("needed", gettext("Needed by this call")))]
    found.resets_at = datetime.fromisoformat(told["resets_at"]) if told.get("resets_at") else None
    if row is None:
        found.text += " " + gettext("That budget was deleted since.")
        return found
    found.budget = budgets.states(gateway().engine, [row])[0]
    if row.is_prepaid:
        url = url_for("blocked.top_up_view", user=row.scope_id, back=back)
        found.fixes.append(Fix(gettext("Top up the balance"), url, "plus-circle", is_dialog=True))
    else:
        url = url_for("budgets.edit_view", id=row.id, back=back)
        found.fixes.append(Fix(gettext("Raise the budget"), url, "arrow-up-circle"))
    return found


def _limit(asked: Asked, back: str) -> Verdict:
    told, subject = asked.details, asked.rule.removeprefix("limit ")
    what = {
        "requests": gettext("Too many requests"),
        "tokens": gettext("Too many tokens"),
        "concurrent": gettext("Too many calls at once"),
    }
    unit = told.get("unit", "requests")
    text = gettext("The limit had no room for the call. Nothing was sent and nothing was charged.")
    setting = next((name for start, name in SETTINGS.items() if subject.startswith(start)), None)
    if setting:
        text += " " + gettext("This limit comes from the setting %(name)s; change it there.", name=setting)
    found = Verdict(what.get(unit, what["requests"]), text, told.get("scope"), unit)
    found.numbers = [(gettext("Limit"), told.get("limit")), (gettext("Used"), told.get("used"))]
    if told.get("window_seconds"):
        found.numbers.append((gettext("Window, in seconds"), told["window_seconds"]))
    found.retry_after = told.get("retry_after")
    row = _row(Limit, asked.rule)
    if row is not None:
        found.limit = limits.states(gateway().engine, [row], gateway().remote)[0]
        url = url_for("limits.edit_view", id=row.id, back=back)
        found.fixes.append(Fix(gettext("Raise the limit"), url, "arrow-up-circle"))
    elif not setting:
        found.text += " " + gettext("That limit was deleted since.")
    if (row is not None or setting) and unit == "requests":
        url = url_for("blocked.reset_view", counter=subject, back=back)
        found.fixes.append(Fix(gettext("Reset the counter"), url, "arrow-counterclockwise", is_dialog=True))
    return found


def _models(asked: Asked, back: str) -> Verdict:
    found = Verdict(
        gettext("The model is on no list of this caller"),
        gettext("A key, its user and their team may each have a list of models; the model must be on all of them."),
    )
    for scope, row in lists_without(asked):
        found.layer = found.layer or scope
        url = url_for("blocked.allow_view", scope=scope, owner=row.id, model=asked.model, back=back)
        label = gettext("Allow it for: %(name)s", name=str(getattr(row, "name", None) or row))
        found.fixes.append(Fix(label, url, "check-circle", is_dialog=True))
    if found.layer is None:
        found.text += " " + gettext("By now it is on all of them.")
    return found


def _model(asked: Asked, _back: str) -> Verdict:
    row = db.session.scalar(select(Model).where(Model.name == asked.model)) if asked.model else None
    found = Verdict(gettext("There was no such model to call"), "")
    if row is None:
        found.text = gettext("No model has this name now. Names are compared letter by letter; an alias counts too.")
        found.fixes = [Fix(gettext("Add a model"), url_for("models.create_view"), "plus-lg")]
        return found
    if not row.is_enabled:
        found.text = gettext("The model is there, but switched off.")
    elif not any(one.is_enabled and one.provider.is_enabled for one in row.deployments):
        found.text = gettext("The model is there, but none of its providers is switched on.")
    else:
        found.text = gettext("The model is there now; if calls still fail, the key may be bound to other providers.")
    found.layer = "model"
    found.fixes = [Fix(gettext("Edit the model"), url_for("models.edit_view", id=row.id), "pencil")]
    return found


def _price(asked: Asked, _back: str) -> Verdict:
    row = db.session.scalar(select(Model).where(Model.name == asked.model)) if asked.model else None
    text = gettext("Nobody said what the model costs, and unknown is not free. Set its price, or mark it as free.")
    found = Verdict(gettext("The model has no price"), text, "model")
    if row is not None:
        found.fixes = [Fix(gettext("Set the price"), url_for("models.edit_view", id=row.id), "pencil")]
    return found


def _edit(title: Any, text: Any, label: Any, *scopes: str) -> Callable[[Asked, str], Verdict]:
    """A verdict that is mended in the form of the key, or of its user."""

    def words(asked: Asked, _back: str) -> Verdict:
        numbers = {"key": asked.key_id, "user": asked.user_id}
        found = Verdict(str(title), str(text), next(iter(scopes), None))
        pages = {"key": "keys.edit_view", "user": "users.edit_view"}
        names = {"key": gettext("API key"), "user": gettext("User")}
        found.fixes = [
            Fix(f"{label}: {names[scope]}", url_for(pages[scope], id=numbers[scope]), "pencil")
            for scope in scopes
            if numbers[scope] is not None
        ]
        return found

    return words


def _revoked(asked: Asked, _back: str) -> Verdict:
    row = db.session.get(ApiKey, asked.key_id) if asked.key_id is not None else None
    found = Verdict(
        gettext("The key was revoked"), gettext("Whoever calls with it is refused, whatever is left."), "key"
    )
    if row is None:
        found.text = gettext("The key was deleted since.")
    elif row.revoked_at is None:
        found.text = gettext("By now the key works again.")
    else:
        found.fixes = [
            Fix(gettext("Lift the revocation"), url_for("keys.lift_view", id=row.id), "unlock", is_dialog=True)
        ]
    return found


def _other(asked: Asked, _back: str) -> Verdict:
    return Verdict(gettext("The gateway refused the call"), gettext("What the caller read says why."))


def _books(_asked: Asked, _path: str) -> Verdict:
    text = gettext("The database did not take the call, so nothing was admitted. The log of that moment says why.")
    return Verdict(gettext("The books could not be written"), text)


def _content(_asked: Asked, _back: str) -> Verdict:
    text = gettext("No provider of the model can take what was sent. Another model may, or other content.")
    return Verdict(gettext("The model cannot do this"), text, "model")


def _policy(asked: Asked, _back: str) -> Verdict:
    number = asked.rule.removeprefix("policy ")
    row = db.session.get(Policy, int(number)) if number.isascii() and number.isdigit() else None
    text = gettext("Nothing was sent and nothing was charged. What was found is not kept.")
    found = Verdict(gettext("A policy did not let the request through"), text)
    if row is None:
        found.text += " " + gettext("That policy was deleted since.")
    else:
        found.fixes = [Fix(gettext("Edit the policy"), url_for("all_policies.edit_view", id=row.id), "pencil")]
    return found


def _more(_asked: Asked, _back: str) -> Verdict:
    text = gettext("So many calls of so many callers were refused in one second that these were only counted.")
    return Verdict(gettext("More calls were refused"), text)


WORDS: Final[dict[str, Callable[[Asked, str], Verdict]]] = {
    "budget": _budget,
    "limit": _limit,
    "models": _models,
    "model": _model,
    "price": _price,
    "content": _content,
    "policy": _policy,
    "books": _books,
    "more": _more,
    "revoked": _revoked,
    "addresses": _edit(
        _("The key may not be used from that address"),
        _("The key has a list of client addresses, and the caller's is not on it."),
        _("Edit the list"),
        "key",
    ),
    "paths": _edit(
        _("The path is on no list of this caller"),
        _("A key and its user may each have a list of paths; the path must be on both."),
        _("Edit the list"),
        "key",
        "user",
    ),
    "expired": _edit(
        _("The key or its user has expired"),
        _("Its time was over when the call came. A later date, or none, lets it work again."),
        _("Change the date"),
        "key",
        "user",
    ),
    "disabled": _edit(
        _("The user of the key is disabled"),
        _("None of the user's keys works until the account is switched on again."),
        _("Switch on"),
        "user",
    ),
}


def lists_without(asked: Asked) -> list[tuple[str, Any]]:
    """The key, user and team whose lists of models lack the model, as they are now."""
    numbers = {"key": asked.key_id, "user": asked.user_id, "team": asked.team_id}
    found = []
    for scope, table in LISTS:
        row: Any = db.session.get(table, numbers[scope]) if numbers[scope] is not None else None
        if row is not None and asked.model and row.allowed_models is not None and asked.model not in row.allowed_models:
            found.append((scope, row))
    return found


def span_of(period: str | int | None) -> str:
    """The period of a budget or limit in words."""
    if period in (None, "none"):
        return ""
    if isinstance(period, int):
        return gettext("per %(count)s s", count=period)
    return str(PERIOD_NAMES.get(period, period))


def layer_of(verdict: Verdict) -> str:
    """The name of the layer that decided."""
    return str(LAYER_NAMES[verdict.layer]) if verdict.layer in LAYER_NAMES else ""


def _row(table: type[Budget] | type[Limit], rule: str) -> Any:
    """The budget or limit that a rule names; None = it is gone, or comes from a setting."""
    number = rule.partition(" ")[2].partition("/")[0]
    return db.session.get(table, int(number)) if number.isascii() and number.isdigit() else None
