"""Signs of life, and what Prometheus reads."""

import hmac
from http import HTTPStatus

from flask import Blueprint, Flask, Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from routes import access, render
from services import healthview
from services.components import UNHEALTHY
from services.metrics import CONTENT_TYPE, Metrics
from services.types import Caller
from utils import clock
from utils.decorators import require_api_key
from utils.extensions import gateway, this_request

bp = Blueprint("ops", __name__)

BEGAN = "tollhouse.began"  # in the WSGI environment: when the request came, monotonic
NO_ROUTE = "none"  # what came to no route
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def watch(app: Flask) -> None:
    """Count every request of the app."""
    metrics = app.extensions["gateway"].metrics
    app.before_request(_began)
    app.after_request(lambda response: _counted(metrics, response))


@bp.get("/")
def index() -> AnyResponse:
    """The panel for people, a sign of life for programs."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect(url_for("admin.index"))
    return render.answer({"status": "healthy", "message": "Tollhouse is running"})


@bp.get("/health")
def health() -> Response:
    """How the parts are that calls depend on; 503 when calls are refused because of one."""
    report = gateway().components.report()
    is_bad = report["status"] == UNHEALTHY
    return render.answer(report, HTTPStatus.SERVICE_UNAVAILABLE if is_bad else HTTPStatus.OK)


@bp.get("/health/live")
def live() -> Response:
    """Whether this process answers; asks nobody else."""
    return render.answer({"status": "ok"})


@bp.get("/health/ready")
def ready() -> Response:
    """Whether calls may be sent here; 503 with the reason while they may not."""
    reason = gateway().components.why_not_ready()
    if reason:
        return render.answer({"status": "not ready", "reason": reason}, HTTPStatus.SERVICE_UNAVAILABLE)
    return render.answer({"status": "ready"})


@bp.get("/health/providers")
@require_api_key
def providers(_caller: Caller) -> Response:
    """How the providers of every model fare, as the worker that answers sees it."""
    here = gateway()
    models, workers = here.catalog.snapshot().models.values(), here.config.web_concurrency
    return render.answer(healthview.of_models(models, here.health.report(), workers))


@bp.get("/metrics")
def metrics() -> Response:
    """What all workers of this server counted, in Prometheus' words; METRICS_TOKEN opens it, and so do admins."""
    here = gateway()
    if not _is_scraper(here.config.metrics_token):
        here.admins.admit(request.headers, request.remote_addr or "", request.method)
    return Response(
        here.metrics.text(here.gauges.read()), headers={"x-request-id": render.request_id()}, content_type=CONTENT_TYPE
    )


def _is_scraper(token: str) -> bool:
    given = request.headers.get("authorization", "").partition(" ")[2]
    return bool(token) and hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())


def _began() -> None:
    this_request().environ[BEGAN] = clock.monotonic_s()


def _counted(counts: Metrics, response: Response) -> Response:
    """Count and log the request once its answer is over; a stream may take minutes."""
    asked = this_request()
    environ, rule = asked.environ, asked.url_rule
    method = asked.method if asked.method in METHODS else "other"
    what = method, rule.rule if rule is not None else NO_ROUTE, response.status_code
    began_s = environ.get(BEGAN, 0.0)

    def over() -> None:
        nonlocal began_s
        if began_s:  # `close` may be called twice
            access.answered(counts, environ, what, clock.monotonic_s() - began_s)
            began_s = 0.0

    response.call_on_close(over)
    return response
