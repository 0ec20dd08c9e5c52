"""Signs of life."""

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from routes import render
from services import healthview
from services.types import Caller
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("ops", __name__)


@bp.get("/")
def index() -> AnyResponse:
    """The panel for people, a sign of life for programs."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect(url_for("admin.index"))
    return render.answer({"status": "healthy", "message": "Tollhouse is running"})


@bp.get("/health")
def health() -> Response:
    """Whether this process answers."""
    return render.answer({"status": "healthy"})


@bp.get("/health/providers")
@require_api_key
def providers(_caller: Caller) -> Response:
    """How the providers of every model fare, as the worker that answers sees it."""
    here = gateway()
    models, workers = here.catalog.snapshot().models.values(), here.config.web_concurrency
    return render.answer(healthview.of_models(models, here.health.report(), workers))
