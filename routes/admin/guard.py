"""What every page of the panel inherits: who may see it, what its answers carry, where its forms may come from."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, ClassVar, Final, TypeVar, cast
from urllib.parse import urlsplit

import flask_admin
from flask import Response, abort, current_app, redirect, render_template, request, url_for
from flask_admin import Admin, BaseView
from flask_admin.contrib.sqla import ModelView
from flask_login import UserMixin, current_user
from werkzeug.wrappers import Response as AnyResponse

from routes import auth
from routes.admin import drafts
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
LEADING: Final = tuple(  # pages that lead to forms of others and get their reader back
    f"/admin/{name}/" for name in ("blocked", "users", "teams", "keys", "models", "budgets", "limits")
)
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


def may_look() -> bool:
    """Whether the browser's user may see what belongs to everybody."""
    found = person()
    return found is not None and rights.has(found.role, rights.READ)


def is_held_up(found: Person) -> bool:
    """Whether the person must change the password or set up a second factor before anything else."""
    return found.must_change_password or gateway().second_factors.is_missing(found)


def held_up(found: Person) -> AnyResponse | None:
    """Where the person has to go first; None = nowhere."""
    if found.must_change_password:
        return redirect(url_for("signin.password"))
    return redirect(url_for("signin.second_factor")) if is_held_up(found) else None


def to_sign_in() -> Any:
    """The sign-in page, which leads back to a page that was only asked for, and keeps a form that was sent."""
    if (page := drafts.sign_in_page()) is not None:
        return page
    target = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("signin.login", next=target))


def is_inside() -> bool:
    """Whether the browser's user has pages to go to, and nothing to do first."""
    found = person()
    return found is not None and not is_held_up(found)


def admin() -> Person:
    """Whose request this is; only for views that a guard lets through."""
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

    Comes first among the bases, and nothing may override it. `is_personal`: the forms of the view change nothing but
    how the panel looks to whoever sends them, so they are for all who see it.
    """

    is_personal: ClassVar[bool] = False

    def is_accessible(self) -> bool:
        """Whether the browser's user may see the view."""
        found, right = person(), rights.READ if self.is_personal else _needed()
        return found is not None and rights.has(found.role, right) and not is_held_up(found)

    def inaccessible_callback(self, name: str, **kwargs: object) -> Any:
        """What everybody else gets: the sign-in page, a word that this is not for them, or a password to change."""
        found = person()
        if found is None:
            return to_sign_in()
        first = held_up(found)
        if first is not None:
            return first
        if rights.has(found.role, rights.READ):
            abort(403, gettext("You may look at everything here, and change nothing."))
        if request.endpoint == "admin.index":
            return redirect(url_for("portal.index"))
        return render_template("admin/not_admin.html", person=found), 403

    def _run_view(self, view: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        # Flask-Admin calls a view again, differently, when it raises TypeError. That would hide the error.
        return view(self, *args, **kwargs)

    @staticmethod
    def is_for(found: Person) -> bool:
        """Whether the person's menu has the view."""
        return rights.has(found.role, rights.READ)


class Personal(Guarded):
    """Lets in everybody who has signed in: for pages about the person whose browser it is, and nobody else."""

    def is_accessible(self) -> bool:
        """Whether the browser's user may see the view."""
        return is_inside()

    def inaccessible_callback(self, name: str, **kwargs: object) -> Any:
        """What others get: the sign-in page, or what they have to do first."""
        found = person()
        return to_sign_in() if found is None else held_up(found)

    @staticmethod
    def is_for(found: Person) -> bool:
        """Whether the person's menu has the view."""
        return True


class SecureView(Guarded, BaseView):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A page that is not about one table."""


class PersonalView(Personal, BaseView):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A page of everybody's own."""


class SecureModelView(Guarded, ModelView):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A page about one table; routes/admin/tables.py says how ours look."""


GUARDING: Final = ("is_accessible", "inaccessible_callback", "_handle_view")  # what makes a view a guarded one
GUARDS: Final = [tuple(getattr(guard, part) for part in GUARDING) for guard in (SecureView, PersonalView)]


class UnguardedView(TypeError):
    """A view would be open to anybody."""


class Panel(Admin):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Flask-Admin that takes only guarded views, whenever they are added."""

    def add_view(self, view: Any) -> None:
        """Add a view.

        Raises:
            UnguardedView: it does not inherit the guard, or replaces a part of it.
        """
        found = tuple(getattr(type(view), part) for part in GUARDING)
        if found not in GUARDS:
            raise UnguardedView(
                f"{type(view).__name__} must inherit SecureView, SecureModelView or PersonalView and keep their guard"
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
    if drafts.take() and found is not None:
        drafts.say()
    return None


def is_surely_own_site() -> bool:
    """Whether the browser itself says that a page of ours sent the request."""
    return _is_own_site() and bool(request.headers.get("sec-fetch-site") or request.headers.get("origin"))


def bring_back() -> Any:
    """The form of a request whose CSRF token is of a session that is over, with what was typed; None = no such form.

    It is shown, not obeyed: see routes/admin/drafts.py. A page of another site never comes here.
    """
    if not is_surely_own_site():
        return None
    is_carried = drafts.take()
    if not (is_carried or drafts.take_typed()):
        return None
    found = person()
    before()
    if found is not None:
        drafts.say()
    shown: Any = current_app.view_functions[request.endpoint or ""](**(request.view_args or {}))
    answer = current_app.make_response(shown)
    if answer.status_code == HTTPStatus.OK and not is_carried:
        answer.status_code = HTTPStatus.BAD_REQUEST
    return answer


def after(response: Response) -> Response:
    """The headers of every answer of the panel."""
    response.headers.update(HEADERS)
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY.format(nonce=nonce())
    return response


def go(endpoint: str, **values: object) -> AnyResponse:
    """A redirect after a change, so that reloading repeats nothing."""
    return redirect(url_for(endpoint, **values), 303)  # type: ignore[arg-type, unused-ignore]  # the package ships no types


def came_from(endpoint: str) -> str:
    """The page that led to a form, where the form's address says so, else that of an endpoint."""
    given = request.args.get("back", "")
    is_ours = given.startswith(LEADING) and given.isprintable() and ".." not in given
    return given if is_ours else url_for(endpoint)


def go_back(endpoint: str) -> AnyResponse:
    """A redirect there after a change."""
    return redirect(came_from(endpoint), 303)


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
