"""`/api/key-management` and `/api/users`: keys and users with their limits, for admins and their programs."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from flask import Blueprint, Response, request

from routes import bodies, render
from services.audit import Actor
from services.errors import InvalidRequest
from services.keymanagement import Answer
from services.pages import Listed
from utils.decorators import require_admin
from utils.extensions import gateway

bp = Blueprint("keymanagement", __name__, url_prefix="/api")

KEYS: Final = "/key-management/keys"
NO_STORE: Final = {"cache-control": "no-store"}
MAX_HEADER: Final = 1000
MAX_NUMBER: Final = 12  # digits


@bp.get(KEYS)
@require_admin
def keys(actor: Actor) -> Response:
    """The keys with all these tags; `tag` is the one that older clients send."""
    filters = {"tags": _tags("tag"), "keyIds": request.args.getlist("keyIds")}
    if not filters["tags"] and not filters["keyIds"]:
        raise InvalidRequest(
            "query param tag is missing from the request url. it is required for retrieving keys.",
            param="tag",
            code="missing_query_tag",
        )
    return _page(gateway().key_management.search(filters | _paging() | {"returnCount": True}))


@bp.put(KEYS)
@require_admin
def create_key(actor: Actor) -> Response:
    """A new key with the secret that the body names."""
    return _made(gateway().key_management.create(actor, bodies.members(), needs_key=True))


@bp.post(KEYS)
@require_admin
def generate_key(actor: Actor) -> Response:
    """A new key; without a secret in the body one is made."""
    return _made(gateway().key_management.create(actor, bodies.members(), needs_key=False))


@bp.route(f"{KEYS}/", methods=["GET", "PATCH", "DELETE"], strict_slashes=False)
@require_admin
def no_key(actor: Actor) -> Response:
    """A client that has lost the id of its key."""
    raise InvalidRequest("id url param is missing from the request url.", param="id", code="missing_param_id")


@bp.get(f"{KEYS}/<key_id>")
@require_admin
def key(actor: Actor, key_id: str) -> Response:
    """One key."""
    return answer(gateway().key_management.get(key_id))


@bp.patch(f"{KEYS}/<key_id>")
@require_admin
def update_key(actor: Actor, key_id: str) -> Response:
    """Change what the body names."""
    return answer(gateway().key_management.update(actor, key_id, bodies.members()))


@bp.delete(f"{KEYS}/<key_id>")
@require_admin
def delete_key(actor: Actor, key_id: str) -> Response:
    """Remove a key."""
    gateway().key_management.delete(actor, key_id)
    return nothing()


@bp.post(f"{KEYS}/<key_id>/rotate")
@require_admin
def rotate_key(actor: Actor, key_id: str) -> Response:
    """A new secret for a key."""
    return _made(gateway().key_management.rotate(actor, key_id, bodies.members(may_be_empty=True)))


@bp.post("/v2/key-management/keys")
@require_admin
def search_keys(actor: Actor) -> Response:
    """The keys that meet all filters of the body; `count` is 0 unless `returnCount` asks for it."""
    found = gateway().key_management.search(bodies.members(may_be_empty=True))
    return render.answer({"keys": found.views, "count": found.count or 0})


@bp.get("/users")
@require_admin
def users(actor: Actor) -> Response:
    """The users that meet all filters of the address."""
    names = {name: request.args.getlist(name) for name in ("userIds", "keyIds")}
    return _page(gateway().user_management.search({"tags": _tags("tag"), **names, **_paging()}))


@bp.route("/users", methods=["PUT", "POST"])
@require_admin
def create_user(actor: Actor) -> Response:
    """A new user, who cannot sign in."""
    return answer(gateway().user_management.create(actor, bodies.members()))


@bp.patch("/users")
@require_admin
def update_named_user(actor: Actor) -> Response:
    """Change the user with the id that clients chose."""
    user_id = request.args.get("userId", "")
    return answer(gateway().user_management.update_named(actor, user_id, _tags("tag"), bodies.members()))


@bp.get("/users/<user_id>")
@require_admin
def user(actor: Actor, user_id: str) -> Response:
    """One user by its `id`."""
    return answer(gateway().user_management.get(user_id))


@bp.patch("/users/<user_id>")
@require_admin
def update_user(actor: Actor, user_id: str) -> Response:
    """Change what the body names of the user with that `id`."""
    return answer(gateway().user_management.update(actor, user_id, bodies.members()))


@bp.delete("/users/<user_id>")
@require_admin
def delete_user(actor: Actor, user_id: str) -> Response:
    """Remove a user with its keys."""
    gateway().user_management.delete(actor, user_id)
    return nothing()


@bp.get("/provider-settings")
@require_admin
def provider_settings(actor: Actor) -> Response:
    """The provider accounts that keys may be bound to; never their credentials."""
    return render.answer(gateway().provider_settings.listed(request.args.getlist("ids")))


@bp.route("/provider-settings", methods=["PUT", "POST"])
@require_admin
def create_provider_setting(actor: Actor) -> Response:
    """A new provider account."""
    return render.answer(gateway().provider_settings.create(actor, bodies.members()))


@bp.patch("/provider-settings/<uuid>")
@require_admin
def update_provider_setting(actor: Actor, uuid: str) -> Response:
    """Change what the body names of a provider account."""
    return render.answer(gateway().provider_settings.update(actor, uuid, bodies.members()))


def _tags(single: str) -> list[str]:
    """Those of the address, of which an empty one means nothing."""
    return [tag for tag in (*request.args.getlist(single), *request.args.getlist("tags")) if tag]


def _paging() -> dict[str, Any]:
    """`limit` and `offset` of the address.

    Raises:
        InvalidRequest: one is no number (code `bad_filters`).
    """
    found = {name: request.args[name] for name in ("limit", "offset") if name in request.args}
    for name, given in found.items():
        if not (given.isascii() and given.isdigit() and len(given) <= MAX_NUMBER):
            raise InvalidRequest(f"{name} query param cannot be converted to integer", param=name, code="bad_filters")
    return {name: int(given) for name, given in found.items()}


def _page(found: Listed) -> Response:
    return render.answer(found.views, headers={"x-total-count": str(found.count or 0)})


def _made(made: Answer) -> Response:
    """With a secret in it."""
    return answer(made, NO_STORE)


def answer(made: Answer, headers: dict[str, str] | None = None) -> Response:
    """What was made or changed; members that mean nothing are named in a header."""
    return render.answer(made.view, headers={**(headers or {}), **ignored(made.ignored)})


def ignored(members: Iterable[str]) -> dict[str, str]:
    """The header that names members that mean nothing."""
    told = quote(",".join(members), safe=",")[:MAX_HEADER]
    return {"x-gateway-ignored-members": told} if told else {}


def nothing() -> Response:
    """An answer without a body."""
    return Response(status=200, headers={"x-request-id": render.request_id()}, mimetype="text/plain")
