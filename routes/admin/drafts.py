"""What somebody typed into a form while their session ended: it comes back after signing in again, not yet sent.

The server keeps none of it. The sign-in page carries what was typed, sealed, and without passwords and other secrets;
from there it goes back to the form's address. Such a request counts as one that only asks for the form: it shows it
with what was typed and changes nothing, whatever it holds. So it needs no CSRF token, and gives none away.
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from flask import flash, render_template, request
from werkzeug.datastructures import MultiDict
from wtforms import Form, PasswordField

from routes.admin.forms import PanelForm
from routes.admin.texts import gettext
from services.credentials import SealBroken
from utils import clock, jsonx
from utils.extensions import gateway

FIELD: Final = "draft"  # of a form that carries one
TYPED: Final = "tollhouse.draft"  # in the WSGI environment: what it held
GOOD_FOR_S: Final = 12 * 3600
MAX_CHARS: Final = 150_000  # of what was typed
APART: Final = frozenset({"csrf_token", "id", "seen", FIELD})  # nobody types these
NEVER: Final = frozenset({"csrf_token", FIELD, "password"})


def typed() -> MultiDict[str, str] | None:
    """What was typed before, when this request brings it back."""
    found: MultiDict[str, str] | None = request.environ.get(TYPED)
    return found


def take() -> bool:
    """Turn a request that brings something back into one that asks for its form; False = it brings nothing."""
    if request.method != "POST" or FIELD not in request.form or not _has_form():
        return False
    _ask_only(_opened(request.form[FIELD]))
    return True


def take_typed() -> bool:
    """The same with a form that was sent under a session that is over; False = nothing was typed into it."""
    if request.method != "POST" or not _has_form() or not _is_typed():
        return False
    if not request.args.get("id") and request.form.get("id"):
        return False  # a question that names its row in the form: there is nothing to lose
    _ask_only(MultiDict(_kept()))
    return True


def sign_in_page() -> Any:
    """The sign-in page with what the request holds, None = it holds nothing that could be lost."""
    held = typed()
    if held is None and not (request.method == "POST" and _has_form() and _is_typed()):
        return None
    pairs = list(held.items(multi=True)) if held is not None else list(_kept())
    text = jsonx.dumps({"kind": FIELD, "at": clock.now_s(), "form": pairs}).decode()
    if len(text) > MAX_CHARS:
        return None
    sealed = gateway().sealer.seal(text).decode()
    return render_template("admin/login.html", target=_target(), draft=sealed), 401


def _target() -> str:
    """The form's address with the number of its row."""
    args = request.args.to_dict(flat=True)
    if "id" not in args and "id" in request.form:
        args["id"] = request.form["id"]
    return request.path + (f"?{urlencode(args)}" if args else "")


def _has_form() -> bool:
    """Whether the address of the request is that of a page."""
    rule = request.url_rule
    return rule is not None and "GET" in (rule.methods or ()) and not (request.endpoint or "").startswith("signin.")


def _is_typed() -> bool:
    return any(value for name, value in request.form.items(multi=True) if name not in APART)


def _kept() -> Iterator[tuple[str, str]]:
    """What was typed, without secrets."""
    secret = secret_names()
    for name, value in request.form.items(multi=True):
        if name not in secret and name.rpartition("-")[2] not in secret:
            yield name, value


def secret_names() -> frozenset[str]:
    """The names of all fields of all forms of the panel whose values are never sent back to a browser."""
    kinds: list[type[Form]] = [PanelForm]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    fields = ((name, getattr(field, "field_class", None)) for kind in kinds for name, field in vars(kind).items())
    return NEVER | {name for name, kind in fields if isinstance(kind, type) and issubclass(kind, PasswordField)}


def _opened(sealed: str) -> MultiDict[str, str] | None:
    try:
        told = jsonx.loads(gateway().sealer.open(sealed.encode()))
    except (SealBroken, jsonx.BadJson):
        return None
    is_ours = isinstance(told, dict) and told.get("kind") == FIELD and clock.now_s() - told["at"] < GOOD_FOR_S
    return MultiDict([(str(name), str(value)) for name, value in told["form"]]) if is_ours else None


def _ask_only(held: MultiDict[str, str] | None) -> None:
    request.method = request.environ["REQUEST_METHOD"] = "GET"
    request.environ[TYPED] = held


def say() -> None:
    """Tell people what they look at."""
    if typed() is None:
        flash(gettext("What you typed could not be brought back; it was too old."), "danger")
    else:
        flash(
            gettext(
                "You were signed out meanwhile, so nothing was saved. What you typed is back, without passwords and "
                "other secrets: look through it, then save it."
            ),
            "danger",
        )
