"""The panel: Flask-Admin with our own templates, for admins, and for auditors to look.

Flask-Admin brings the lists; how its pages behave is in tables.py, who may see them in guard.py.
"""

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, render_template, request
from flask_admin.theme import Bootstrap4Theme
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from routes import render, wording, words
from routes.admin import guard, joining, openid, secondfactor, show, signin  # noqa: F401 - three of them add routes
from routes.admin.agents import Agents
from routes.admin.alerts import Alerts, AlertTargets
from routes.admin.balances import Balances, Transactions
from routes.admin.batches import BatchList
from routes.admin.blocked import Blocked
from routes.admin.budgets import Budgets
from routes.admin.callroutes import Routes
from routes.admin.catalog import Models
from routes.admin.configs import Configs
from routes.admin.dialogs import Dialogs, Messages
from routes.admin.guard import Panel
from routes.admin.invitations import Invitations
from routes.admin.keys import Keys
from routes.admin.limits import Limits
from routes.admin.listviews import ListViews
from routes.admin.logs import AuditLog, Ledger
from routes.admin.overview import Overview
from routes.admin.playground import Playground, asking
from routes.admin.policies import Policies
from routes.admin.portal.pages import own_pages
from routes.admin.prompts import Prompts
from routes.admin.providers import Providers
from routes.admin.raising import Raisings
from routes.admin.search import Search
from routes.admin.steps import FirstSteps
from routes.admin.teams import Teams
from routes.admin.texts import N_, gettext
from routes.admin.topups import TopUpCodes
from routes.admin.usage import Usage
from routes.admin.users import Users
from services.errors import GatewayError
from utils.extensions import DATABASE_DOWN, login_manager

log = logging.getLogger(__name__)

ASSET_S = 3600  # browsers ask again after an hour; ours change their address with their content
ACCESS, ROUTING, OBSERVE, SYSTEM = N_("Access"), N_("Routing"), N_("Observe"), N_("System")
PEOPLE = N_("People")
GROUPS = (None, ACCESS, ROUTING, PEOPLE, OBSERVE, SYSTEM)  # of the sidebar, from top to bottom


def register(app: Flask) -> None:
    """Put the panel on the app.

    Raises:
        UnguardedView: a view would be open to anybody.
    """
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = ASSET_S
    panel = Panel(
        name="Tollhouse",
        url="/admin",
        index_view=Overview(N_("Overview"), endpoint="admin", url="/admin"),
        theme=Bootstrap4Theme(),
        csp_nonce_generator=guard.nonce,
    )
    for view in _pages():
        panel.add_view(view)
    panel.init_app(app)
    app.register_blueprint(signin.bp)  # with what joining.py, openid.py and secondfactor.py add to it
    views = panel._views  # noqa: SLF001 - it has no public list
    words.register(app)
    show.register(app, views, GROUPS)
    _wire(app, [signin.bp.name, *(view.endpoint for view in views)])


def _pages() -> tuple[Any, ...]:
    """The pages in the order of the sidebar."""
    return (
        *own_pages(),
        FirstSteps(N_("First steps"), endpoint="steps", url="/admin/steps"),
        Playground(N_("Playground"), endpoint="playground", url="/playground"),
        Prompts(N_("Prompts"), endpoint="stored_prompts", url="/portal/prompts"),
        Users(N_("Users"), ACCESS, endpoint="users"),
        Teams(N_("Teams"), ACCESS, endpoint="teams"),
        Invitations(N_("Invitations"), ACCESS, endpoint="invites"),
        Keys(N_("API keys"), ACCESS, endpoint="keys"),
        Budgets(N_("Budgets"), ACCESS, endpoint="budgets"),
        Limits(N_("Limits"), ACCESS, endpoint="limits"),
        Balances(N_("Token balances"), ACCESS, endpoint="token_balances", url="/admin/balances"),
        Raisings(N_("Requests"), ACCESS, endpoint="raises"),
        TopUpCodes(N_("Top-up codes"), ACCESS, endpoint="topups"),
        Providers(N_("Providers"), ROUTING, endpoint="providers"),
        Models(N_("Models"), ROUTING, endpoint="models"),
        Agents(N_("Agents"), ROUTING, endpoint="all_agents", url="/admin/agents"),
        Policies(N_("Policies"), ROUTING, endpoint="all_policies", url="/admin/policies"),
        Routes(N_("Routes"), ROUTING, endpoint="own_routes", url="/admin/routes"),
        Usage(N_("Usage"), OBSERVE, endpoint="usage"),
        BatchList(N_("Batches"), OBSERVE, endpoint="all_batches", url="/admin/batches"),
        Blocked(N_("Why was it blocked?"), OBSERVE, endpoint="blocked"),
        Alerts(N_("Alerts"), OBSERVE, endpoint="alerts"),
        AlertTargets(N_("Alert targets"), OBSERVE, endpoint="alert_targets", url="/admin/alert-targets"),
        Ledger(N_("Ledger"), OBSERVE, endpoint="ledger"),
        Transactions(N_("Token transactions"), OBSERVE, endpoint="transactions"),
        Dialogs(N_("Dialogs"), OBSERVE, endpoint="all_dialogs", url="/admin/dialogs"),
        Messages(N_("Messages"), OBSERVE, endpoint="all_messages", url="/admin/messages"),
        AuditLog(N_("Audit log"), OBSERVE, endpoint="audit"),
        Configs(N_("Configuration"), SYSTEM, endpoint="configs"),
        Search(N_("Search"), endpoint="search", url="/admin/search"),
        ListViews(N_("Saved views"), OBSERVE, endpoint="views"),
    )


def _wire(app: Flask, names: list[str]) -> None:
    """What happens around every request of the panel, and of nothing else."""
    # Flask-Login would look at the session after every request of the app: that costs CPU on /v1, whose answers
    # would carry `Vary: Cookie` and spoil caches. Only the panel has sessions, so only the panel gets the hook.
    hook = login_manager._update_remember_cookie  # noqa: SLF001 - it offers no other way
    everywhere = app.after_request_funcs.get(None, [])
    if hook in everywhere:
        everywhere.remove(hook)
    for name in names:
        app.before_request_funcs.setdefault(name, []).append(guard.before)
        app.after_request_funcs.setdefault(name, []).extend([hook, guard.after])
        handlers = app.error_handler_spec[name]
        handlers[None][HTTPException] = _refused
        handlers[None][CSRFError] = _out_of_date
        handlers[None][GatewayError] = _failed
        for kind in DATABASE_DOWN:
            handlers[None][kind] = lambda exc: _failed(render.no_database(exc), is_outside=True)
        handlers[None][Exception] = _unexpected


def _refused(exc: HTTPException) -> Any:
    """The framework's errors as a page."""
    if exc.code is None or exc.code < HTTPStatus.BAD_REQUEST:
        return exc
    if exc.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and request.mimetype == asking.JSON:
        return asking.too_large()  # before any view: the CSRF check reads the body
    return render_template("admin/error.html", status=HTTPStatus(exc.code), message=_words(exc)), exc.code


def _out_of_date(exc: CSRFError) -> Any:
    """A form of a session that is over: back with what was typed, where that may be."""
    return guard.bring_back() or _refused(exc)


def _failed(exc: GatewayError, *, is_outside: bool = False) -> Any:
    """What a service refused and no form could show. `is_outside`: without the frame, which asks the database."""
    log.log(exc.level, "request failed request_id=%s status=%s code=%s", render.request_id(), exc.status, exc.code)
    if is_outside:  # whoever it is: Flask-Login would look that up for every template
        login_manager._update_request_context_with_user()  # noqa: SLF001 - it offers no other way
    page = {"status": HTTPStatus(exc.status), "message": wording.say(str(exc)), "is_outside": is_outside}
    return render_template("admin/error.html", **page), exc.status


def _unexpected(exc: Exception) -> Any:
    """The last resort: say nothing of the inside, log everything."""
    log.error("request failed request_id=%s", render.request_id(), exc_info=exc)
    message = gettext("Something went wrong. The log has the reason, under the number %(id)s.", id=render.request_id())
    return render_template("admin/error.html", status=HTTPStatus.INTERNAL_SERVER_ERROR, message=message), 500


def _words(exc: HTTPException) -> str:
    """Our words for an error; what `abort` was given goes before."""
    words = {
        400: gettext("The form is out of date. Go back, load the page again and send it once more."),
        404: gettext("There is nothing here. It may have been deleted."),
        405: gettext("This address does not take that kind of request."),
        413: gettext("That was too much to send at once."),
    }
    given = exc.description if type(exc).description != exc.description else None
    return words.get(exc.code or 0) or given or gettext("You may not do this.")
