"""What is done to many rows of a list at once: asked first, all in one transaction, an audit entry for each row.

A view declares its actions as a table of `Action`. Where a row can be put back exactly, the answer offers that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from flask import abort, flash, redirect, request
from flask import session as browser
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError

from routes import wording
from routes.admin.guard import admin
from routes.admin.texts import gettext, lazy_gettext
from services import rights
from services.errors import GatewayError
from utils import clock, jsonx
from utils.extensions import db

if TYPE_CHECKING:
    from routes.admin.tables import Table

_ = lazy_gettext

MOST: Final = 500  # rows at once
MAX_ID: Final = 2**63 - 1
MAX_KEY: Final = 200  # characters of a key that is no number
MAX_BACK: Final = 2000
MAX_REASON: Final = 255
UNDO: Final = "undo"  # in the cookie: what was just done and can be undone
UNDO_S: Final = 600
UNDO_CHARS: Final = 1500  # a cookie holds 4096 bytes in all


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done to rows. `why_not`, `run` and `undo` name methods of the view."""

    name: str
    label: Any
    done: Any  # with %(count)s
    run: str  # (row, what somebody gave as the reason) does it, within the transaction, with its audit entry
    why_not: str  # (row) why it cannot be done; None = it can
    consequences: tuple[Any, ...] = ()
    icon: str = "check2-square"
    is_danger: bool = False
    asks_reason: bool = False
    undo: str = ""  # (row, its columns before) puts it back
    touches: tuple[str, ...] = ()  # the columns that `undo` needs as they were before
    right: str = rights.CHANGE

    @property
    def may(self) -> bool:
        """Whether the browser's user may do it."""
        return rights.has(admin().role, self.right)


def delete(*consequences: Any, label: Any = None, done: Any = None) -> Action:
    """Deleting, with what follows from it."""
    return Action(
        "delete",
        label or _("Delete"),
        done or _("Rows that were deleted: %(count)s."),
        run="delete_one",
        why_not="why_kept",
        consequences=(*consequences, _("This cannot be undone.")),
        icon="trash",
        is_danger=True,
    )


def switches(off: Sequence[Any], on: Sequence[Any], *, asks_reason: bool = False) -> tuple[Action, Action]:
    """Disabling and enabling, with what follows from each. The view's `switch` and `restore` do it."""
    both: dict[str, Any] = {"undo": "restore"}
    return (
        Action(
            "disable",
            _("Disable"),
            _("Rows that were disabled: %(count)s."),
            run="switch_off",
            why_not="why_not_off",
            consequences=tuple(off),
            icon="pause-circle",
            asks_reason=asks_reason,
            **both,
        ),
        Action(
            "enable",
            _("Enable"),
            _("Rows that were enabled: %(count)s."),
            run="switch_on",
            why_not="why_not_on",
            consequences=tuple(on),
            icon="play-circle",
            **both,
        ),
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows that somebody ticked, in their order, with why each cannot be done; `missing`: keys of no row."""

    rows: Sequence[Any]
    reasons: Mapping[Any, str | None]
    missing: Sequence[str]

    @property
    def fit(self) -> list[Any]:
        """The rows that it can be done to."""
        return [row for row in self.rows if self.reasons[row.id] is None]

    @property
    def is_whole(self) -> bool:
        """Whether it can be done to everything that was ticked."""
        return not self.missing and len(self.fit) == len(self.rows)


def answer(view: "Table") -> Any:
    """Asks what is to be done to the ticked rows, or does it when that was answered with yes."""
    action = next((one for one in view.many if one.name == request.form.get("action")), None)
    if action is None:
        return abort(400)
    if not action.may:
        return abort(403)
    keys = list(dict.fromkeys(request.form.getlist("listed" if "all" in request.form else "id")))
    if not 0 < len(keys) <= MOST:
        few, many = gettext("Tick the rows first."), gettext("At most %(most)s rows at once, please.", most=MOST)
        flash(many if keys else few, "danger")
        return back(view)
    chosen = _chosen(view, action, keys)
    if "sure" not in request.form or not chosen.fit or not (chosen.is_whole or "skip" in request.form):
        return _question(view, action, chosen, keys)
    try:
        _do(view, action, chosen.fit)
    except (GatewayError, IntegrityError) as exc:
        db.session.rollback()
        said = gettext("Somebody changed this at the same moment. Please look again.")
        flash(wording.say(str(exc)) if isinstance(exc, GatewayError) else said, "danger")
    return back(view)


def back(view: "Table") -> Any:
    """To the list, as it was."""
    given = request.form.get("back", "")[:MAX_BACK]
    query = urlencode(parse_qsl(given)) if given.isprintable() else ""
    return redirect(view.get_url(".index_view") + (f"?{query}" if query else ""), 303)


def _question(view: "Table", action: Action, chosen: Chosen, keys: Sequence[str]) -> Any:
    titles = view.titles(list(chosen.rows))
    page = view.render(
        "admin/model/bulk.html",
        action=action,
        chosen=chosen,
        titles=titles,
        keys=keys,
        back=request.form.get("back", "")[:MAX_BACK],
        reason=request.form.get("reason", "")[:MAX_REASON],
        back_url=view.get_url(".index_view"),
    )
    return page, 422 if "sure" in request.form else 200


def _chosen(view: "Table", action: Action, keys: Sequence[str]) -> Chosen:
    """The rows of these keys, in one statement and those that the list needs; foreign ones are missing."""
    key = inspect(view.model_class).primary_key[0]
    is_number = key.type.python_type is int
    fit = [one for one in keys if (_is_number(one) if is_number else _is_text(one))]
    query = view.get_query().filter(key.in_([int(one) if is_number else one for one in fit])).order_by(None)
    if "sure" in request.form:
        query = query.with_for_update(of=view.model_class)
    rows = {str(row.id): row for row in query.all()}
    found = [rows[one] for one in keys if one in rows]
    why_not: Callable[[Any], str | None] = getattr(view, action.why_not)
    return Chosen(found, {row.id: why_not(row) for row in found}, [one for one in keys if one not in rows])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < len(str(MAX_ID)) + 1 and 0 < int(text) <= MAX_ID


def _is_text(text: str) -> bool:
    return len(text) <= MAX_KEY and text.isprintable()


def _do(view: "Table", action: Action, rows: Sequence[Any]) -> None:
    """All of them in one transaction."""
    run, reason = getattr(view, action.run), request.form.get("reason", "").strip()[:MAX_REASON]
    reason = reason if reason.isprintable() else ""
    undoable = []
    for row in rows:
        before = {name: getattr(row, name) for name in view.switched} if action.undo == "restore" else {}
        number = row.id
        run(row, reason)
        if action.undo:
            undoable.append([number, view.fingerprint(row), before])
    db.session.commit()
    view.settled()
    said = str(action.done) % {"count": len(rows)}
    if not (action.undo and offer(view, action.undo, undoable, said)):
        flash(said, "success")


def offer(view: "Table", how: str, rows: Sequence[Sequence[Any]], said: str) -> bool:
    """Say what was done, with a button that undoes it; False = it does not fit into the cookie.

    `how` is one of the view's `undo_…`; `rows` are triples of key, fingerprint as it is now, and columns before.
    """
    told = {"view": view.endpoint, "how": how, "rows": list(rows), "said": said, "until": clock.now_s() + UNDO_S}
    if len(jsonx.dumps(told)) > UNDO_CHARS:
        return False
    browser[UNDO] = told | {"is_new": True}
    return True


def offered(view: "Table") -> str | None:
    """What was just done to rows of this view and can be undone; said once."""
    told = browser.get(UNDO)
    if not told or told["view"] != view.endpoint or not told["is_new"]:
        return None
    browser[UNDO] = told | {"is_new": False}
    return str(told["said"])


def undo(view: "Table") -> Any:
    """Put the rows back that were just changed, unless somebody changed them since: then nothing is done."""
    told = browser.pop(UNDO, None)
    if not told or told["view"] != view.endpoint or told["until"] < clock.now_s():
        flash(gettext("There is nothing to undo any more."), "danger")
        return back(view)
    key = inspect(view.model_class).primary_key[0]
    query = view.get_query().filter(key.in_([number for number, _print, _before in told["rows"]]))
    rows = {row.id: row for row in query.order_by(None).with_for_update(of=view.model_class)}
    if any(number not in rows or view.fingerprint(rows[number]) != seen for number, seen, _before in told["rows"]):
        db.session.rollback()
        flash(gettext("Somebody changed this meanwhile, so it was not undone."), "danger")
        return back(view)
    put_back = getattr(view, f"undo_{told['how']}")
    try:
        for number, _seen, before in told["rows"]:
            put_back(rows[number], before)
        db.session.commit()
    except (GatewayError, IntegrityError) as exc:
        db.session.rollback()
        said = gettext("Somebody changed this at the same moment. Please look again.")
        flash(wording.say(str(exc)) if isinstance(exc, GatewayError) else said, "danger")
        return back(view)
    view.settled()
    flash(gettext("It is as it was before."), "success")
    return back(view)
