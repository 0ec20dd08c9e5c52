"""One call of `/v1`, from the model's name to the ledger, in the order in which it happens.

resolve -> reserve -> (encode -> send -> decode) for each candidate until one answers -> settle.
No vendor, no SQL and no web framework in here. Whatever fails, fails before the first byte of the answer or as an
event in its stream; whatever was reserved is settled once.
"""

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from services import patience, relay, token_counter
from services.abilities import operations
from services.accounting import Accounting
from services.attempts import Attempts
from services.bookings import Settlement
from services.caching import Cache
from services.catalog import Catalog
from services.dialects.base import Dialect, Translated
from services.discovery import Discovery
from services.errors import (
    AccountingUnavailable,
    CallerGone,
    GatewayError,
    ModelNotAllowed,
    ModelNotAvailable,
    ModelNotPriced,
    Unsupported,
    UpstreamError,
    UpstreamUnreachable,
)
from services.exchange import Patience
from services.guards import judging
from services.guards.guard import Guard
from services.guards.judging import Judging
from services.health import Health
from services.layers import Layers
from services.plans import Plan, State
from services.pricing import UNPRICED
from services.providers.base import Wire
from services.routing import candidates, detours
from services.settlement import BROKEN, CLIENT_GONE, sent_note, settlement_of
from services.spool import Spool, SpoolUnavailable
from services.stream import Stream, Streamed, outcome_of
from services.tokens import Tokens
from services.traces import traced
from services.transport import Answer
from services.types import Attempt, Call, Caller, Demand, Deployment, PublicModel
from services.watch import Watch
from utils import clock

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
UNEXPECTED: Final = "The gateway failed on this request."
GOOD: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say about calls."""

    refuses_unpriced: bool
    default_output_tokens: int
    beat_s: float
    patience: Patience
    retries: int


class Pipeline:
    """The stages of a call. Holds collaborators, never the state of a request."""

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators
        self,
        catalog: Catalog,
        accounting: Accounting,
        tokens: Tokens,
        spool: Spool,
        watch: Watch,
        wires: Mapping[str, Wire],
        discovery: Discovery,
        layers: Layers,
        health: Health,
        policy: Policy,
        observe: Callable[[Call, Settlement], None],
        cache: Cache,
        judging: Judging,
    ) -> None:
        self._catalog, self._accounting, self._tokens, self._discovery = catalog, accounting, tokens, discovery
        self._spool, self._watch, self._wires, self._layers, self._policy = spool, watch, wires, layers, policy
        self._health, self._observe, self._cache, self._judging = health, observe, cache, judging

    def open(self, call: Call, dialect: Dialect, *, socket: int | None) -> "bytes | Streamed":
        """Admit the call and have it answered: the whole answer, already booked, or a stream to iterate and close.

        Raises:
            GatewayError: the call was not admitted, or was booked for what it cost although it failed.
        """
        if (kept := self._admitted(call, dialect)) is not None:
            return kept
        try:
            self._watch.add(call, socket)
            answer = self._first_answer(call, dialect)
        except BaseException as exc:  # noqa: BLE001 - booked, and raised again
            self._cache.give_up(call)
            self._fail(call, exc)
            reason = call.abort_reason or exc
            if call.record is not None:
                shown = reason if isinstance(reason, GatewayError) else GatewayError(UNEXPECTED)
                call.record.failed(call, dialect.error_body(shown))
            raise reason from None
        if call.drain_until_s is not None:  # nobody was there to take even its head
            call.status = CallerGone.status
        if not isinstance(answer, Stream):
            call.outcome = "ok" if call.drain_until_s is None else CLIENT_GONE
            if call.store is not None:
                call.store(answer)
            self._finish(call)
            if call.record is not None:
                call.record.answered(call, answer)
        return self._cache.keep(call, answer)

    def _admitted(self, call: Call, dialect: Dialect) -> "bytes | Streamed | None":
        """Hold what the call may use; or the answer that is kept for it, which is booked already.

        Raises:
            GatewayError: it may not be made.
        """
        try:
            self._resolve(call)
            assert call.model is not None  # noqa: S101 - _resolve found one or raised
            if call.guard is not None:
                call.guard.admit(call, partial(judging.ask, self._judging, self.open, call))
            if (kept := self._cache.answer(call, self._finish)) is not None:
                return kept
            self._accounting.reserve(call, self._demand(call, call.model, dialect))
        except BaseException as exc:
            self._cache.give_up(call)
            if isinstance(exc, GatewayError):
                noted = {"path": call.marks.path, "custom_id": call.custom_id, "client_metadata": call.client_metadata}
                exc.refuse(call.caller, call.body["model"], noted=noted)
            raise
        return None

    def explain(self, call: Call, dialect: Dialect) -> tuple[Plan, State, GatewayError | None]:
        """What `open` would do with the call, as Admission.explain says it; nobody is asked and nothing is held.

        Raises:
            GatewayError: the call would be refused before any budget or limit is looked at.
        """
        self._resolve(call)
        assert call.model is not None  # noqa: S101 - _resolve found one or raised
        return self._accounting.admission.explain(call, self._demand(call, call.model, dialect))

    def _demand(self, call: Call, model: PublicModel, dialect: Dialect) -> Demand:
        """What the call may use at most, wherever it goes."""
        found = dialect.demand(call, model, self._policy.default_output_tokens)
        hidden = max(self._wires[one.upstream.kind].hidden_tokens(call, one) for one in call.candidates)
        return replace(found, input_tokens=found.input_tokens + hidden) if hidden else found

    def _resolve(self, call: Call) -> None:
        """The model, its deployments in the order in which they are tried, and whose budgets and limits apply."""
        name, snapshot = call.body["model"], self._catalog.snapshot()
        model = snapshot.model(name)
        if model is None and self._discovery.ask_now():  # it may have been installed a moment ago
            snapshot = self._catalog.refresh()
            model = snapshot.model(name)
        if model is None:
            raise ModelNotAvailable(f"Model '{name}' is not available.", param="model")
        models = snapshot.models
        if not (call.caller.may_use(name) or call.caller.may_use(model.name)):
            whose = (
                f"key `{call.caller.key_hint}`" if call.caller.key_id is not None else f"user `{call.caller.username}`"
            )
            allowed = ", ".join(f"`{model}`" for model in sorted(call.caller.allowed_models or ())) or "none"
            raise ModelNotAllowed(f"The {whose} may not use model `{name}`; allowed: {allowed}.", param="model")
        priced = self._usable(call, model, models)
        used = {candidate.model_id for candidate in priced}
        asked = [model] if used == {model.id} else [one for one in models.values() if one.id in used]
        call.model, call.candidates = relay.widest(model, asked), tuple(priced)
        call.model_budgets = tuple([budget for one in asked for budget in one.budgets])
        call.limits = self._layers.of(call.caller, call.address, model)
        if snapshot.policies is not None and not call.is_judging:
            found = snapshot.policies.of(call.caller, model)
            call.guard = Guard(found, call.marks) if found else None

    def _usable(self, call: Call, model: PublicModel, models: Mapping[str, PublicModel]) -> list[Deployment]:
        """The priced deployments that can do this and that the caller may reach, in order; fills in `detours`."""
        name = model.name
        if call.route is not None:
            found = call.route.candidates(call.caller)
        else:
            found, call.detours = self._reachable(call.caller, model, models)
        able = [candidate for candidate in found if call.operation in operations(self._wires, candidate.upstream)]
        if found and not able:
            raise Unsupported(
                f"Model `{name}` cannot do this: its provider has no {call.operation.replace('_', ' ')} endpoint.",
                param="model",
            )
        priced = [candidate for candidate in able if candidate.price is not None]
        if not self._policy.refuses_unpriced:
            priced = [candidate if candidate.price else replace(candidate, price=UNPRICED) for candidate in able]
        if able and not priced:
            raise ModelNotPriced(
                f"Nobody said what model `{name}` costs. An admin can set its price, or mark it free.", param="model"
            )
        if not priced:
            raise ModelNotAvailable(
                f"Model '{name}' is not available: none of its providers is enabled, or none that this key may use.",
                param="model",
            )
        return priced

    def _reachable(
        self, caller: Caller, model: PublicModel, models: Mapping[str, PublicModel]
    ) -> tuple[list[Deployment], dict[int, str]]:
        """The deployments that the caller's calls may go to, and which of them wait for what reason."""
        chosen = candidates(model, models, random.random, self._health.delay_s)
        others = detours(model, models, chosen, random.random)
        found = [one for one in (*chosen, *(one for one, _reason in others)) if caller.may_reach(one)]
        return found, {one.id: reason for one, reason in others}

    def _first_answer(self, call: Call, dialect: Dialect) -> "bytes | Stream":
        assert call.model is not None  # noqa: S101 - it was found
        retries = call.model.routing.retries
        attempts = Attempts(call, self._health, self._policy.retries if retries is None else retries)
        unsupported: Unsupported | None = None
        asked = call.body
        for deployment in attempts:
            began_s = clock.monotonic_s()
            if call.step is not None:
                call.body = {**asked, **call.step.params}
            try:
                answer = self._attempt(call, deployment, dialect)
            except Unsupported as exc:  # by this provider; another one may take it
                self._health.released(deployment)
                unsupported = exc
            except UpstreamError as exc:
                exc.hide(deployment.upstream.credential)
                call.exchange = None
                if call.abort_reason is not None:  # the gateway itself hung up: that says nothing of the provider
                    self._health.released(deployment)
                    raise call.abort_reason from None
                call.attempts[-1].happened = exc.code or "upstream_error"
                attempts.failed(deployment, exc)
                if call.drain_until_s is not None:  # nobody waits for another provider's answer
                    raise
            except BaseException:
                self._health.released(deployment)
                raise
            else:
                self._health.succeeded(deployment, clock.monotonic_s() - began_s)
                return answer
            finally:
                call.upstream_s += clock.monotonic_s() - began_s
        failure = attempts.failure or unsupported
        assert failure is not None  # noqa: S101 - there is at least one candidate
        raise failure

    def _attempt(self, call: Call, deployment: Deployment, dialect: Dialect) -> "bytes | Stream":
        """One deployment's answer; a failure leaves nothing open."""
        wire = self._wires[deployment.upstream.kind]
        request = relay.encoded(wire, call, deployment)

        attempt, call.exchange = Attempt(deployment, began_s=clock.monotonic_s()), None
        call.attempts.append(attempt)
        request = traced(request, call.span)
        try:
            self._spool.sent(call.id, sent_note(attempt))
        except SpoolUnavailable as exc:
            raise AccountingUnavailable("usage cannot be recorded at the moment, so no calls are admitted") from exc
        usual = self._policy.patience
        allowed = patience.of_attempt(usual, call, call.model) if call.model else usual
        answer = self._tokens.open(
            wire, deployment.upstream, request, lambda opened: relay.attach(call, opened), allowed
        )
        is_handed_on = False
        try:
            call.upstream_headers, call.upstream_type = relay.shown(answer), answer.headers.get("content-type", "")
            if answer.status not in GOOD:
                raise wire.error(answer.status, answer.headers, relay.read_error(answer), deployment)
            if call.is_stream and not relay.is_whole(call, answer):
                relay.check_stream(answer, wire)
                stream = self._stream(call, answer, wire, dialect)
                call.is_answered = is_handed_on = True
                return stream
            whole = wire.decode(call, answer.read(MAX_ANSWER_BYTES))
            call.first_byte_s, call.usage, call.is_answered = clock.monotonic_s(), whole.usage, True
            call.pieces.extend(whole.pieces)
            call.content_type, call.is_stream = whole.content_type, False
            translation = None if call.is_native else dialect.translation
            body = whole.body if call.guard is None else call.guard.answered(call, whole.body, whole.content_type)
            return body if translation is None else translation.answer(call, body)
        finally:
            if not is_handed_on:
                call.exchange = None
                answer.close()

    def _stream(self, call: Call, answer: Answer, wire: Wire, dialect: Dialect) -> Stream:
        """The stream, once it has something to say.

        Raises:
            GatewayError: see Stream.prime.
        """
        call.told_pieces = None
        decoder = wire.stream(call) if call.guard is None else call.guard.streamed(call, wire.stream(call))
        if dialect.translation is not None and not call.is_native:
            decoder = Translated(decoder, dialect.translation.stream(call))
        stream = Stream(
            call,
            answer,
            decoder,
            beat_s=0.0 if call.is_binary else self._policy.beat_s,  # neither comments nor errors fit into bytes
            progress=self._spool.progress,
            finish=self._finish,
            leave=self._watch.leave,
            render_error=None if call.is_binary else relay.last_words(call, dialect),
        )
        stream.prime()
        return stream

    def _fail(self, call: Call, exc: BaseException) -> None:
        reason = call.abort_reason or exc
        call.outcome = outcome_of(reason, "upstream_error" if isinstance(reason, UpstreamError) else "refused")
        if not isinstance(reason, GatewayError):
            call.outcome = "internal_error"
        call.status = reason.status if isinstance(reason, GatewayError) else GatewayError.status
        call.error = str(reason) if isinstance(reason, GatewayError) else type(reason).__name__
        self._finish(call)
        if isinstance(reason, UpstreamUnreachable) and call.deployment is not None:  # addresses are for the row alone
            reason.args = (f"the provider `{call.deployment.upstream.name}` cannot be reached",)

    def _finish(self, call: Call) -> None:
        """Book the call, once."""
        if call.is_finished:
            return
        call.is_finished = True
        self._watch.remove(call)
        if call.is_stream and call.outcome in BROKEN and call.deployment is not None:
            self._health.failed(call.deployment, UpstreamError(call.error or call.outcome))
        settlement = settlement_of(call, token_counter.estimate)
        call.cost_nanousd, call.is_overrun = settlement.cost_nanousd, settlement.is_overrun
        self._accounting.settle(settlement)
        self._observe(call, settlement)
        if call.outcome == "ok" and call.reply is not None and call.reply.keep is not None:
            call.reply.keep(call)
        if call.record is not None and call.is_stream and call.is_answered:
            call.record.answered(call)
