"""Signs of life."""

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from routes import render

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
