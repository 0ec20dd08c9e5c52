"""Tokens of providers whose credential must be exchanged for one that ends (TokenWire in services/providers/base.py).

A worker keeps one token per provider. Shortly before it ends one caller fetches the next, while the others go on with
it; without one, all wait for the one who asks, and share what comes of it. A token that a provider refuses is
forgotten, and the call tried once more with a new one.
"""

import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Final

from services.errors import UpstreamError, UpstreamTimeout
from services.exchange import Patience
from services.providers.base import TokenWire, UpstreamRequest, Wire
from services.providers.openai import error_detail
from services.transport import Answer, Transport
from services.types import Upstream
from utils import clock, ids

MAX_BYTES: Final = 65_536
UNAUTHORIZED: Final = 401
GOOD: Final = range(200, 300)
PATIENCE: Final = Patience(connect_s=5.0, silence_s=10.0, total_s=15.0)  # with one exchange
WAIT_S: Final = 20.0  # for an exchange of somebody else
AHEAD_MS: Final = 60_000  # a token is replaced that long before it ends, or when a fifth of its life is left
LAST_MS: Final = 5_000  # and no longer used that long before
LEAST_MS: Final = 30_000  # a clock that is wrong would else make us ask for every call
AGAIN_MS: Final = 5_000  # after a failure, the next attempt at replacing a token that is still good


@dataclass(slots=True, eq=False)
class _Kept:
    """What is known of one provider's token."""

    upstream: Upstream  # as it was then
    exchanging: threading.Lock = field(default_factory=threading.Lock)
    token: str = ""
    renew_ms: int = 0  # from when on it should be replaced
    ends_ms: int = 0  # from when on it is not used
    failure: UpstreamError | None = None
    failed_s: float = -1.0


class Tokens:
    """See the module."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._kept: dict[int, _Kept] = {}
        self._adding = threading.Lock()

    def open(
        self,
        wire: Wire,
        upstream: Upstream,
        request: UpstreamRequest,
        attach: Callable[[Answer], None],
        patience: Patience | None = None,
    ) -> Answer:
        """See Transport.open; with a token in the request where the provider wants one.

        Raises:
            UpstreamError: see there, or no token was had.
        """
        if not hasattr(wire, "token_request"):
            return self._transport.open(upstream, request, attach, patience)
        token = self.credential(wire, upstream)
        answer = self._transport.open(upstream, _with_token(request, token), attach, patience)
        if answer.status == UNAUTHORIZED:
            answer.close()
            self.forget(upstream, token)
            token = self.credential(wire, upstream)
            answer = self._transport.open(upstream, _with_token(request, token), attach, patience)
        return answer

    def credential(self, wire: Wire, upstream: Upstream) -> str:
        """What opens the provider: its own credential, or a token that was had for it.

        Raises:
            UpstreamError: no token was had.
        """
        if not isinstance(wire, TokenWire):
            return upstream.credential
        kept = self._of(upstream)
        if clock.now_ms() < kept.renew_ms:
            return kept.token
        asked_s = clock.monotonic_s()
        if clock.now_ms() < kept.ends_ms:
            if kept.exchanging.acquire(blocking=False):
                self._renew(kept, wire, upstream)
            return kept.token
        if not kept.exchanging.acquire(timeout=WAIT_S):
            raise UpstreamTimeout(f"the provider `{upstream.name}` gave no token within {WAIT_S:g} s")
        try:
            if clock.now_ms() >= kept.ends_ms:
                if kept.failure is not None and kept.failed_s >= asked_s:
                    raise copy(kept.failure)  # an exception has one traceback
                self._exchange(kept, wire, upstream)
            return kept.token
        finally:
            kept.exchanging.release()

    def forget(self, upstream: Upstream, token: str) -> None:
        """The provider does not take this token any more."""
        kept = self._of(upstream)
        if kept.token == token:
            kept.renew_ms = kept.ends_ms = 0

    def _of(self, upstream: Upstream) -> _Kept:
        """What is kept for the provider; nothing yet, if its row has changed since."""
        kept = self._kept.get(upstream.id)
        if kept is None or kept.upstream != upstream:
            with self._adding:
                kept = self._kept.get(upstream.id)
                if kept is None or kept.upstream != upstream:
                    kept = self._kept[upstream.id] = _Kept(upstream)
        return kept

    def _renew(self, kept: _Kept, wire: TokenWire, upstream: Upstream) -> None:
        """Replace a token that is still good; where that fails, it is used a little longer."""
        try:
            if clock.now_ms() >= kept.renew_ms:  # nobody did meanwhile
                self._exchange(kept, wire, upstream)
        except UpstreamError:
            kept.renew_ms = min(clock.now_ms() + AGAIN_MS, kept.ends_ms)  # which is over, if it was refused meanwhile
        finally:
            kept.exchanging.release()

    def _exchange(self, kept: _Kept, wire: TokenWire, upstream: Upstream) -> None:
        try:
            token, ends_ms = self._ask(wire, upstream)
        except UpstreamError as exc:
            exc.hide(upstream.credential)
            kept.failure, kept.failed_s = exc, clock.monotonic_s()
            raise
        now_ms = clock.now_ms()
        life_ms = max(ends_ms - now_ms, LEAST_MS)
        kept.token = token
        kept.ends_ms = now_ms + life_ms - LAST_MS
        kept.renew_ms = min(kept.ends_ms, now_ms + life_ms - min(AHEAD_MS, life_ms // 5))

    def _ask(self, wire: TokenWire, upstream: Upstream) -> tuple[str, int]:
        base_url, request = wire.token_request(upstream, ids.uuid())
        answer = self._transport.open(replace(upstream, base_url=base_url), request, lambda _opened: None, PATIENCE)
        try:
            body = answer.read(MAX_BYTES)
        finally:
            answer.close()
        if answer.status not in GOOD:
            why = error_detail(body).get("message") or "no reason given"
            raise UpstreamError(f"the provider `{upstream.name}` gave no token ({answer.status}): {why}")
        return wire.token_of(body)


def _with_token(request: UpstreamRequest, token: str) -> UpstreamRequest:
    return replace(request, headers=(*request.headers, ("authorization", f"Bearer {token}")))
