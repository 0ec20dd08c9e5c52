"""What every page of the panel inherits: who may see it, what its answers carry, where its forms may come from."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import flask_admin
from flask import Response, abort, redirect, render_template, request, url_for
from flask_admin import Admin, BaseView
from flask_admin.contrib.sqla import ModelView
from flask_login import UserMixin, current_user
from werkzeug.wrappers import Response as AnyResponse

from routes import auth
from routes.admin.texts import gettext
from services import rights
from services.accounts import Person
from services.audit import Actor
from utils import ids
from utils.extensions import LOCALE, gateway

F = TypeVar("F", bound=Callable[..., Any])

NONCE: Final = "tollhouse.nonce"  # in the WSGI environment
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # not no-referrer: the CSRF check compares it under https
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
OWN_SITE: Final = frozenset({"same-origin", "none"})


class SignedIn(UserMixin):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Flask-Login's user: a person, known by the token of the browser session."""

    def __init__(self, person: Person, token: str) -> None:
        self.person, self.token = person, token

    def get_id(self) -> str:
        """What the cookie carries: the token, never the user's id."""
        return self.token


def person() -> Person | None:
    """Who is signed in with this browser."""
    return current_user.person if current_user.is_authenticated else None


def may_change() -> bool:
    """Whether the browser's user may change what the panel shows."""
    found = person()
    return found is not None and rights.has(found.role, rights.CHANGE)


def is_held_up(found: Person) -> bool:
    """Whether the person must change the password or set up a second factor before anything else."""
    return found.must_change_password or gateway().second_factors.is_missing(found)


def is_inside() -> bool:
    """Whether the browser's user sees the panel, and not only pages about themselves."""
    found = person()
    return found is not None and rights.has(found.role, rights.READ) and not is_held_up(found)


def admin() -> Person:
    """The admin or auditor whose request this is; only for views that `Guarded` lets through."""
    found = person()
    if found is None:
        abort(403)
    return found


def actor() -> Actor:
    """The same for the audit log."""
    return auth.actor(admin().username, admin().user_id)


def expose(url: str = "/", methods: Iterable[str] = ("GET",)) -> Callable[[F], F]:
    """Flask-Admin's decorator, with a type."""
    return cast("Callable[[F], F]", flask_admin.expose(url, methods=tuple(methods)))


class Guarded:
    """Lets in whom services/rights.py does: admins, and auditors to what only shows something.

    Comes first among the bases, and nothing may override it.
    """

    def is_accessible(self) -> bool:
        """Whether the browser's user may see the view."""
        found = person()
        return found is not None and rights.has(found.role, _needed()) and not is_held_up(found)

    def inaccessible_callback(self, name: str, **kwargs: object) -> Any:
        """What everybody else gets: the sign-in page, a word that this is not for them, or a password to change."""
        found = person()
        if found is None:
            target = request.full_path.rstrip("?") if request.method == "GET" else None
            return redirect(url_for("signin.login", next=target))
        if not rights.has(found.role, rights.READ):
            return render_template("admin/not_admin.html", person=found), 403
        if found.must_change_password:
            return redirect(url_for("signin.password"))
        if is_held_up(found):
            return redirect(url_for("signin.second_factor"))
        return abort(403, gettext("You may look at everything here, and change nothing."))

    def _run_view(self, view: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        # Flask-Admin calls a view again, differently, when it raises TypeError. That would hide the error.
        return view(self, *args, **kwargs)


class SecureView(Guarded, BaseView):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A page that is not about one table."""


class SecureModelView(Guarded, ModelView):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A page about one table; routes/admin/tables.py says how ours look."""


class UnguardedView(TypeError):
    """A view would be open to anybody."""


class Panel(Admin):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Flask-Admin that takes only guarded views, whenever they are added."""

    def add_view(self, view: Any) -> None:
        """Add a view.

        Raises:
            UnguardedView: it does not inherit the guard, or replaces a part of it.
        """
        parts = ("is_accessible", "inaccessible_callback", "_handle_view")
        guard = (Guarded.is_accessible, Guarded.inaccessible_callback, BaseView._handle_view)  # noqa: SLF001 - Flask-Admin calls it by this name
        if tuple(getattr(type(view), part) for part in parts) != guard:
            raise UnguardedView(
                f"{type(view).__name__} must inherit SecureView or SecureModelView and keep their guard"
            )
        super().add_view(view)


def nonce() -> str:
    """The number that lets this answer's own scripts and styles run, and no others."""
    found: str | None = request.environ.get(NONCE)
    if found is None:
        found = request.environ[NONCE] = ids.random_base62(22)
    return found


def before() -> Response | None:
    """Refuse what another site sends; then the answer is in the person's language.

    The CSRF token already keeps strangers out. This holds even if one leaks.
    """
    if request.method not in rights.SAFE_METHODS and not _is_own_site():
        abort(403, gettext("This form came from another site."))
    found = person()
    if found is not None and found.locale:
        request.environ[LOCALE] = found.locale
    return None


def after(response: Response) -> Response:
    """The headers of every answer of the panel."""
    response.headers.update(HEADERS)
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY.format(nonce=nonce())
    return response


def go(endpoint: str, **values: object) -> AnyResponse:
    """A redirect after a change, so that reloading repeats nothing."""
    return redirect(url_for(endpoint, **values), 303)  # type: ignore[arg-type, unused-ignore]  # the package ships no types


def _needed() -> str:
    """The right to this request: a page that takes forms is for those who may send them."""
    methods = (request.url_rule.methods if request.url_rule is not None else None) or {request.method}
    return rights.READ if methods <= rights.SAFE_METHODS else rights.CHANGE


def _is_own_site() -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in OWN_SITE:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin)[:2] == (request.scheme, request.host)
