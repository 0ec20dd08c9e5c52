"""`/api/providers/openai`: the calls of `/v1` for clients that know another gateway's paths and error messages.

A key whose total cost limit is reached counts as expired here, and is revoked once it is of no further use; on `/v1`
the same refusal is a 402 and changes nothing.
"""

import logging

from flask import Blueprint, Response

from routes import media, serving
from services import totals
from services.dialects import PROXY, PROXY_OTHER, openai_other
from services.dialects.base import Dialect
from services.errors import AuthenticationFailed, BudgetExceeded
from services.types import CHAT, COMPLETION, EMBEDDING, Caller
from utils.decorators import require_api_key
from utils.extensions import DATABASE_DOWN, gateway

log = logging.getLogger(__name__)

bp = Blueprint("proxy", __name__, url_prefix="/api/providers/openai")


@bp.post("/v1/chat/completions")
@bp.post("/chat/completions")
@require_api_key
def chat_completions(caller: Caller) -> Response:
    """A chat answer, whole or streamed."""
    return serve(caller, CHAT)


@bp.post("/v1/completions")
@bp.post("/completions")
@require_api_key
def completions(caller: Caller) -> Response:
    """The continuation of a text, whole or streamed."""
    return serve(caller, COMPLETION)


@bp.post("/v1/embeddings")
@bp.post("/embeddings")
@require_api_key
def embeddings(caller: Caller) -> Response:
    """Vectors of texts."""
    return serve(caller, EMBEDDING)


@bp.get("/v1/models")
@bp.get("/models")
@require_api_key
def models(caller: Caller) -> Response:
    """The models this caller may use."""
    return serving.list_models(caller)


@bp.get("/v1/models/<path:name>")
@bp.get("/models/<path:name>")
@require_api_key
def model(caller: Caller, name: str) -> Response:
    """One model; names may contain slashes."""
    return serving.show_model(caller, name)


def serve(caller: Caller, operation: str, dialect: Dialect = PROXY) -> Response:
    """See serving.serve.

    Raises:
        AuthenticationFailed: the key has spent its total limit.
    """
    try:
        if operation in openai_other.REQUIRED:
            return media.answer(caller, operation, PROXY_OTHER)
        return serving.serve(caller, operation, dialect)
    except BudgetExceeded as exc:
        if not totals.is_reached(exc):
            raise
        if caller.key_id is not None and totals.is_used_up(exc):
            _revoke(caller.key_id)
        raise AuthenticationFailed(str(exc), code="key_expired") from exc


def _revoke(key_id: int) -> None:
    """Void the key here at once and elsewhere within two seconds; if the database is away, its next call does."""
    here = gateway()
    try:
        here.keys.revoke_used_up(key_id)
        here.catalog.refresh()
    except DATABASE_DOWN as exc:
        log.warning("key %s has spent its cost limit and could not be revoked: %s", key_id, type(exc).__name__)


media.add_routes(bp, ("/v1", ""), serve)
