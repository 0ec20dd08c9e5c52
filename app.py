"""Builds the application. Wiring only: no I/O but the check of the settings, no logic.

`python app.py` is the development server on port 5000; production runs gunicorn (see gunicorn.conf.py).
"""

import sys
from collections.abc import Callable
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo
from werkzeug.middleware.proxy_fix import ProxyFix

import config as settings
import routes
import services
from config import Config, ConfigError
from utils import extensions, logs

DEVELOPMENT_PORT = 5000
CONNECT = {  # by DB_POOLING, what psycopg.connect is told; what one transaction prepares, another may not find
    "session": {"connect_timeout": 2},
    "transaction": {"connect_timeout": 2, "prepare_threshold": None},
}


class _Unusable(click.ClickException):
    """A command cannot do anything with these settings."""

    exit_code = settings.EXIT_BAD_CONFIG


class App(Flask):
    """Flask, without its question, eight times a request, whether a function is a coroutine: none of ours is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """See Flask.ensure_sync."""
        return func


def serving() -> Flask:
    """The application as a server loads it: without the commands of an operator, which take 12 MB."""
    return create_app(with_commands=False)


def create_app(config: Config | None = None, *, with_commands: bool = True) -> Flask:
    """The WSGI application for these settings (default: those of the environment).

    Raises:
        ConfigError: the settings cannot be used.
    """
    config = config or _settings()
    settings.project()
    logs.configure(config.log_level, as_json=config.logs_json, secrets=config.secrets, with_access=config.access_log)
    app = App("tollhouse", root_path=str(settings.ROOT), instance_path=str(config.instance_path.resolve()))
    url, _source = config.database
    app.config.update(
        **_signing(config),
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_ECHO=config.db_echo,
        SQLALCHEMY_TRACK_MODIFICATIONS=config.track_modifications,
        SQLALCHEMY_ENGINE_OPTIONS=_engine_options(config, url),
        MAX_CONTENT_LENGTH=config.max_body_bytes,
        TRUSTED_HOSTS=list(config.trusted_hosts) or None,
        BCRYPT_HANDLE_LONG_PASSWORDS=True,
        BABEL_DEFAULT_LOCALE=config.default_locale,
        SESSION_COOKIE_NAME="admin_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.is_strict,
        BOOTSTRAP_SERVE_LOCAL=True,
        WTF_CSRF_TIME_LIMIT=None,
    )
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]  # a WSGI app around the app
    extensions.init(app)
    with app.app_context():
        app.extensions["gateway"] = services.build(config, extensions.db.engine)
    routes.register(app, config)
    if with_commands:
        from routes import cli  # noqa: PLC0415 - see `serving`

        cli.register(app)
    return app


def _settings() -> Config:
    """Those of the environment. Under `flask …` a mistake in them ends the command with its words, not with a trace."""
    try:
        return settings.load_prepared()
    except ConfigError as exc:
        if click.get_current_context(silent=True) is None:
            raise
        raise _Unusable(str(exc)) from exc


def _signing(config: Config) -> dict[str, object]:
    """What signs cookies, and what is still believed."""
    return {"SECRET_KEY": config.secret_key, "SECRET_KEY_FALLBACKS": list(config.secret_keys_previous) or None}


def _engine_options(config: Config, url: str) -> dict[str, object]:
    """The control plane's pool; the books have their own."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 0}}  # it waits otherwise: services/books/patience.py
    return {
        "pool_size": config.db_pool_size,
        "max_overflow": config.db_max_overflow,
        "pool_pre_ping": True,
        "connect_args": CONNECT[config.db_pooling],
    }


def main() -> int:
    """The development server: prepares, then serves with threads and reports its own address."""
    try:
        # It listens on one port, which serves everything.
        config = settings.load_prepared().model_copy(update={"admin_port": None, "proxy_port": None})
        app = create_app(config)
    except ConfigError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - there is no log yet
        return settings.EXIT_BAD_CONFIG
    if config.is_strict:
        print("`python app.py` is for development; others run gunicorn -c gunicorn.conf.py", file=sys.stderr)  # noqa: T201 - there is no log yet
        return settings.EXIT_BAD_CONFIG
    port = config.port or DEVELOPMENT_PORT
    app.cli.main(
        ["prepare", "--url", f"http://{config.host}:{port}"],
        standalone_mode=False,
        obj=ScriptInfo(create_app=lambda: app),
    )
    app.extensions["gateway"].start_worker()
    app.run(config.host, port, threaded=True, use_reloader=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
