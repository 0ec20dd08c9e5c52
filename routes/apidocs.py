"""`/openapi.json`, and pages that show it: Swagger UI at `/docs`, ReDoc at `/redoc`. There only where settings say so.

The pages' programs come from an installed package: nothing is asked of other hosts, and no script stands in a page.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, abort, current_app, make_response, render_template, send_from_directory
from flask_babel import get_locale

from routes import openapi, render
from utils import ids

PACKAGE: Final = "offapi"  # its files are served, its code is never loaded: that would read them all
ASSETS: Final = {"swagger.js": "swagger_bundle.js", "swagger.css": "swagger_style.css", "redoc.js": "redoc.js"}
ASSET_S: Final = 3600
# Both pages set styles of elements by script, which no policy of styles restrains; ReDoc also makes style elements, and
# gives them the nonce. Its search runs in a worker made of a blob. Its maker's logo, on another host, is not loaded.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}

bp = Blueprint("apidocs", __name__)


@bp.get("/openapi.json")
def document() -> Response:
    """This document."""
    return render.answer(openapi.document(current_app))


@bp.get("/docs")
def swagger() -> Response:
    """This document as a page from which requests can be tried (Swagger UI)."""
    return _page("apidocs/swagger.html")


@bp.get("/redoc")
def redoc() -> Response:
    """This document as a page to read (ReDoc)."""
    return _page("apidocs/redoc.html")


@bp.get("/docs/assets/<name>")
def asset(name: str) -> Response:
    """A file of these pages."""
    if name not in ASSETS:
        abort(404)
    return send_from_directory(folder(), ASSETS[name], max_age=ASSET_S)


def folder() -> Path:
    """Where the package's files lie."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"the package {PACKAGE} of requirements.txt is not installed")
    return Path(found.origin).parent


def _page(template: str) -> Response:
    nonce = ids.random_base62(22)
    response = make_response(render_template(template, nonce=nonce, language=str(get_locale()).replace("_", "-")))
    response.headers.update(HEADERS)
    response.headers["x-request-id"] = render.request_id()
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY.format(nonce=nonce)
    return response
