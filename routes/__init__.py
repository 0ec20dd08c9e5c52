"""HTTP in, HTTP out: the only code that sees a request."""

from flask import Flask

from config import Config
from routes import (
    admin,
    administration,
    agents,
    apidocs,
    assets,
    auth,
    balances,
    batches,
    callroutes,
    cors,
    dialogs,
    exports,
    files,
    invitations,
    keymanagement,
    legacy,
    llm,
    media,
    messages,
    modelbook,
    ops,
    people,
    policies,
    privacy,
    prompts,
    providers,
    render,
    reporting,
    responses,
    shedding,
    systemconfig,
    teams,
    user,
)
from routes.early import EarlyRefusal
from routes.ports import PortGuard
from utils.extensions import csrf

BLUEPRINTS = (
    *(llm.bp, media.bp, messages.bp, responses.bp, files.bp, batches.bp, providers.bp),
    *(callroutes.calls, legacy.bp),
    *(auth.bp, user.bp, balances.bp, ops.bp, keymanagement.bp, callroutes.bp, policies.bp),
    *(people.bp, modelbook.bp, modelbook.api, invitations.bp, dialogs.bp, agents.bp, prompts.bp, exports.bp),
    *(administration.bp, systemconfig.bp, teams.bp, privacy.bp, reporting.bp),
)
CALLED_BY_BROWSERS = (
    *(llm.bp, media.bp, messages.bp, responses.bp, files.bp, batches.bp, providers.bp, callroutes.calls),
)


def register(app: Flask, config: Config) -> None:
    """Put every surface on the app."""
    for blueprint in BLUEPRINTS:
        csrf.exempt(blueprint)  # they take keys and tokens, not cookies
        app.register_blueprint(blueprint)
    cors.register(app, tuple(one.name for one in CALLED_BY_BROWSERS), config.cors_origins)
    if config.has_docs:
        app.register_blueprint(apidocs.bp)
    admin.register(app)
    assets.register(app, *(("apidocs.asset",) if config.has_docs else ()))
    render.register(app)
    ops.watch(app)
    shedding.register(app)
    if config.default_locale == "en":  # its refusals are
        here = app.extensions["gateway"]
        app.wsgi_app = EarlyRefusal(app.wsgi_app, here.callers.identify, here.metrics, here.refusals.note)  # type: ignore[method-assign]  # a WSGI app around the app
    if config.admin_port or config.proxy_port:
        app.wsgi_app = PortGuard(app, app.wsgi_app, config)  # type: ignore[method-assign]  # a WSGI app around the app
