"""The Flask extensions, unbound, and the way to the collaborators of the current app."""

from typing import TYPE_CHECKING

from flask import Flask, Request, current_app, has_request_context, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_babel import Babel
from flask_bcrypt import Bcrypt
from flask_bootstrap import Bootstrap5
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy import MetaData
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase

if TYPE_CHECKING:
    from services import Gateway


class Base(DeclarativeBase):
    """Root of all tables. Every constraint has a name, so that a migration can find it again."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


DATABASE_DOWN = (OperationalError, PoolTimeout)  # it is away, full, or busy for too long
LANGUAGES = {"en": "en", "pt": "pt_BR"}  # by the language that is asked for, whatever the country
PAGES = ("/admin", "/portal", "/playground")  # where pages for browsers begin
LOCALE = "tollhouse.locale"  # in the WSGI environment: the language that a signed-in person chose

db = SQLAlchemy(model_class=Base)
bcrypt = Bcrypt()
login_manager = LoginManager()
csrf = CSRFProtect()
babel = Babel()


class PanelSessions(SecureCookieSessionInterface):
    """Cookies are for pages. Reading and signing one costs 40 µs, which no call of an API needs to pay."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """See SessionInterface; None makes a session that cannot be written."""
        return super().open_session(app, request) if request.path.startswith(PAGES) else None


def gateway() -> "Gateway":
    """What the current app was built with."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy # noqa: SLF001 - as below
    found: Gateway = app.extensions["gateway"]
    return found


def this_request() -> Request:
    """The current request itself: each look through Flask's `request` costs as much as this."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]  # of the proxy # noqa: SLF001 - public there
    return found


def init(app: Flask) -> None:
    """Bind all extensions to the app."""
    app.session_interface = PanelSessions()
    db.init_app(app)
    bcrypt.init_app(app)
    login_manager.init_app(app)
    csrf.init_app(app)
    babel.init_app(app, locale_selector=_locale)
    Bootstrap5(app)


def _locale() -> str:
    """The language of a request: what its person chose, the best one its sender accepts, else DEFAULT_LOCALE."""
    default = str(current_app.config["BABEL_DEFAULT_LOCALE"])
    if not has_request_context():
        return default
    if LOCALE in request.environ:
        return str(request.environ[LOCALE])
    for tag, quality in request.accept_languages:  # the best one first
        language = tag.partition("-")[0].lower()
        if quality > 0 and (language in LANGUAGES or language == "*"):
            return LANGUAGES.get(language, default)
    return default
