"""A conversation of the playground becomes a dialog of its person."""

from typing import Any

from flask import request

from routes import auth, serving
from routes.admin.playground import asking
from services import dialogfiles
from services.dialects import openai
from services.types import Caller
from utils import jsonx, native
from utils.extensions import gateway

SURFACE = "/api/v1/export/import"  # what is done here is done there as well, for programs


def keep(caller: Caller) -> dict[str, Any]:
    """Store the dialog in the body ({"title"?, "model_name", "system_prompt"?, "messages"}) among those of the person.

    Raises:
        InvalidRequest: something in it cannot be stored; `details` says what.
        PermissionDenied, RateLimited: as for programs that import dialogs.
    """
    config = gateway().config
    request.max_content_length = min(config.max_body_bytes, config.max_import_bytes)
    gateway().callers.check_access(caller, "POST", SURFACE, request.remote_addr or "")
    serving.counted(caller)
    file = jsonx.dumps({"dialogs": [openai.members(asking.body())]})
    bounds = dialogfiles.Bounds(config.max_messages_per_dialog, config.max_content_length, config.llm_default_model)
    found = native.run(dialogfiles.read, file, bounds)
    return dialogfiles.store(gateway().engine, caller.user_id, found, auth.actor(caller.username, caller.user_id))
