"""What would become of a short chat or embedding of a key now: asked for by admins who wonder why a key is refused.

Nothing is asked of a provider, held or counted. The client's address is not known, so lists of addresses and limits of
addresses are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from services import access
from services.dialects import OPENAI
from services.errors import AuthenticationFailed, GatewayError, Unsupported
from services.keys import Keys, Void
from services.plans import Plan, State
from services.types import CHAT, EMBEDDING, Call, Caller, Chat
from utils import clock, ids, jsonx

Explain = Callable[[Call], tuple[Plan, State, GatewayError | None]]

ASKED: Final[dict[str, tuple[str, Chat]]] = {  # what a short request looks like, and where it is sent
    CHAT: ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}),
    EMBEDDING: ("/v1/embeddings", {"input": "Hello!"}),
}
LONGEST_MODEL: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What would happen; without a refusal the call would be admitted."""

    operation: str
    refusal: GatewayError | None
    plan: Plan | None = None
    state: State | None = None


def of_key(keys: Keys, explain: Explain, digest: str, model: str) -> Answer:
    """What would become of a call of the key with this digest to this model.

    Raises:
        AccountingUnavailable: the books cannot be read.
    """
    found = keys.find(digest)
    if not isinstance(found, Caller):
        void = AuthenticationFailed(f"The API key is not valid: {found}.", code="key_revoked")
        if isinstance(found, Void):
            void.refuse(found, model, rule=found.rule)
        return Answer(CHAT, void)
    if found.expires_at_s is not None and found.expires_at_s <= clock.now_s():
        expired = AuthenticationFailed("The API key is not valid: it has expired.", code="key_expired")
        expired.refuse(found, model)
        return Answer(CHAT, expired)
    answer = _of_call(explain, found, CHAT, model)
    if isinstance(answer.refusal, Unsupported):
        other = _of_call(explain, found, EMBEDDING, model)
        return answer if isinstance(other.refusal, Unsupported) else other
    return answer


def _of_call(explain: Explain, caller: Caller, operation: str, model: str) -> Answer:
    path, body = ASKED[operation]
    try:
        access.check(replace(caller, allowed_ips=None), "POST", path, "")
        call = OPENAI.call(operation, jsonx.dumps({"model": model, **body}), caller, ids.request_id())
        plan, state, refusal = explain(call)
    except GatewayError as exc:
        exc.refuse(caller, model)
        return Answer(operation, exc)
    if refusal is not None:
        refusal.refuse(caller, model)
    return Answer(operation, refusal, plan, state)
