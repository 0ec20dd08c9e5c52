"""From a call to what is booked for it: in a live worker, and from the traces a dead one left.

When a call is charged, and how its row is marked:

what happened                                   tokens charged                         state
the provider reported usage                     as reported, whatever the hold         measured
… after its caller left, see on_disconnect      as reported, whatever the hold         measured
an answer began, usage is missing or unusable   prompt and delivered text, counted     estimated
text came after the last report                 the larger of both                     measured or estimated
the caller left before the first byte           prompt, counted                        estimated
the worker died after the request went out      prompt and progress, roughly           estimated
no upstream took the call, or none answered     none                                   void
a stream broke before its first word            none                                   void
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from services.bookings import Booking, Recount, Settlement
from services.books.base import RECOVERED, HoldRow
from services.marks import Marks
from services.pricing import amount_nanousd, charge_lines, tokens_of
from services.spool import Notes
from services.types import WITHOUT_OUTPUT, Attempt, Call, Count, Price, Take, Tier, Usage
from utils import clock, jsonx

CLIENT_GONE: Final = "client_gone"
BLOCKED: Final = "blocked"  # a policy did not let the answer through
BROKEN: Final = frozenset({"upstream_cut", "upstream_timeout"})  # how streams end by their upstream's fault
BYTES_PER_TOKEN: Final = 4  # rough, for the prompt of a call whose text died with its worker
MAX_ERROR_CHARS: Final = 300

TakeRecord = tuple[int, int, int, str, bool, int]  # budget id, period start, amount, unit, is prepaid, its model's id
CountRecord = tuple[str, str, int, int, int, bool]  # subject, unit, start, end, amount, is remote


def settlement_of(call: Call, estimate: Callable[[Call], Usage]) -> Settlement:
    """What is booked for a call that ended in this worker; its usage is then in the call. `estimate` counts texts."""
    deployment = call.deployment
    usage, state = _usage(call, estimate)
    call.usage = usage
    price, served = (deployment.price, deployment.model_id) if deployment else (None, 0)
    lines = charge_lines(usage, price) if price and state != "void" else ()
    cost = amount_nanousd(lines) if lines else 0
    bookings = _bookings(map(take_record, call.takes), usage, price, cost, served) if call.takes else ()
    counts = count_records(call)
    return Settlement(
        request_id=call.id,
        created_ms=call.started_ms,
        user_id=call.caller.user_id,
        key_id=call.caller.key_id,
        model=call.model.name if call.model else "",
        provider=deployment.upstream.name if deployment else None,
        upstream_model=deployment.model if deployment else None,
        operation=call.operation,
        is_stream=call.is_stream,
        status=call.status,
        outcome=call.outcome,
        state=state,
        is_overrun=bool(bookings) and any(booking.booked > booking.held for booking in bookings),
        usage=usage,
        cost_nanousd=cost,
        price=price,
        bookings=bookings,
        first_byte_ms=None if call.first_byte_s is None else _ms(call.first_byte_s - call.started_s),
        duration_ms=_ms(clock.monotonic_s() - call.started_s),
        attempts=tuple([(one.deployment.upstream.name, one.happened or call.outcome) for one in call.attempts]),
        error=clean(call.error) if call.error else None,
        recounts=_recounts(counts, tokens_of(usage)) if counts else (),
        team_id=call.caller.team_id,
        charge_lines=lines,
        custom_id=call.custom_id,
        client_metadata=call.client_metadata,
        marks=call.marks.copy(),
        trace=trace_of(call),
    )


def trace_of(call: Call) -> dict[str, Any] | None:
    """How the call went, for people who look: when its attempts began, what its budgets and limits had for it.

    `began`: milliseconds after the call; `budgets`: [id, scope, unit, period, is prepaid, limit, gone before it, taken
    for it]; `limits`: [counter, scope, unit, span, limit, left after it]. Neither where nothing applied.
    """
    found: dict[str, Any] = {}
    if call.attempts and call.attempts[0].began_s:
        found["began"] = [_ms(attempt.began_s - call.started_s) for attempt in call.attempts]
    if call.gone:
        found["budgets"] = [
            (b.id, b.scope, b.unit, b.period, b.is_prepaid, call.gone[b.id][1], call.gone[b.id][0] - amount, amount)
            for b, amount in ((take.budget, take.amount) for take in call.takes)
            if b.id in call.gone
        ]
    if call.room:
        found["limits"] = [
            (limit.subject, limit.scope, limit.unit, limit.seconds or limit.period, limit.amount, left)
            for limit, left in ((room.limit, room.left) for room in call.room)
        ]
    return found or None


def hold_note(call: Call, most_input: int) -> dict[str, Any]:
    """What must be known of a call should its worker die; stored with the hold. `most_input`: its bound, in tokens."""
    assert call.model is not None  # noqa: S101 - a call is held after its model was found
    rough = max(1, call.body_bytes // BYTES_PER_TOKEN) + call.upload_tokens
    return {
        "user": call.caller.user_id,
        "key": call.caller.key_id,
        "team": call.caller.team_id,
        "model": call.model.name,
        "op": call.operation,
        "stream": call.is_stream,
        "in": min(rough, most_input),  # a picture has many bytes and few tokens
        "custom": call.custom_id,
        "metadata": call.client_metadata,
        "marks": call.marks.told,
    }


def sent_note(attempt: Attempt) -> dict[str, Any]:
    """What must be known of an attempt should its worker die; spooled before the request goes out."""
    return {
        "provider": attempt.deployment.upstream.name,
        "model": attempt.deployment.model,
        "model_id": attempt.deployment.model_id,
        "price": attempt.deployment.price,
    }


def recovered(hold: HoldRow, notes: Notes) -> Settlement:
    """What is booked for a call whose worker died, from its hold and what the spool says of it."""
    call, sent = jsonx.loads(hold.call), notes.sent.get(hold.request_id)
    takes: list[TakeRecord] = [(*take, 0)[:6] for take in jsonx.loads(hold.takes)]  # older holds name no model
    usage, price = Usage(), None
    if sent is not None:
        output = 0 if call["op"] in WITHOUT_OUTPUT else notes.progress.get(hold.request_id, 0)
        usage, price = Usage(call["in"], output), price_from(sent["price"])
    lines = charge_lines(usage, price) if price else ()
    cost = amount_nanousd(lines)
    bookings = _bookings(takes, usage, price, cost, sent.get("model_id", 0) if sent else 0)
    return Settlement(
        request_id=hold.request_id,
        created_ms=hold.created_ms,
        user_id=call["user"],
        key_id=call["key"],
        model=call["model"],
        provider=sent and sent["provider"],
        upstream_model=sent and sent["model"],
        operation=call["op"],
        is_stream=call["stream"],
        status=0,
        outcome=RECOVERED,
        state="estimated" if sent else "void",
        is_overrun=any(booking.booked > booking.held for booking in bookings),
        usage=usage,
        cost_nanousd=cost,
        price=price,
        bookings=bookings,
        first_byte_ms=None,
        duration_ms=max(0, clock.now_ms() - hold.created_ms),
        attempts=((sent["provider"], "worker died"),) if sent else (),
        error="the worker died during the call",
        recounts=_recounts(map(tuple, jsonx.loads(hold.counts)), tokens_of(usage)),
        team_id=call.get("team"),
        charge_lines=lines,
        custom_id=call.get("custom"),
        client_metadata=call.get("metadata"),
        marks=Marks(**call.get("marks", {})),
    )


def without_texts(settlement: Settlement) -> Settlement:
    """The figures alone, for a database that refuses one of the texts."""
    return replace(settlement, error=None, attempts=(), upstream_model=None)


def settlement_from(record: dict[str, Any]) -> Settlement:
    """A settlement as read back from the spool."""
    fields = dict(record)
    fields["usage"] = Usage(**fields["usage"])
    fields["price"] = price_from(fields["price"])
    fields["bookings"] = tuple(Booking(**booking) for booking in fields["bookings"])
    fields["recounts"] = tuple(Recount(**change) for change in fields.get("recounts", ()))
    fields["charge_lines"] = tuple((what, units, rate) for what, units, rate in fields.get("charge_lines", ()))
    fields["marks"] = Marks(**fields.get("marks", {}))
    fields["attempts"] = tuple((provider, happened) for provider, happened in fields["attempts"])
    return Settlement(**fields)


def price_from(record: dict[str, Any] | None) -> Price | None:
    """A price as read back from JSON."""
    if record is None:
        return None
    return Price(**record | {"tiers": tuple(Tier(**tier) for tier in record.get("tiers", ()))})


def take_record(take: Take) -> TakeRecord:
    """A take as stored with its hold."""
    budget = take.budget
    model_id = budget.scope_id if budget.scope == "model" else 0
    return budget.id, take.period_start, take.amount, budget.unit, budget.is_prepaid, model_id


def count_records(call: Call) -> list[CountRecord]:
    """What a call counts against its limits, as stored with its hold."""
    remote = [count_record(count, is_remote=True) for count in call.remote_counts]
    return [*remote, *map(count_record, call.counts)]


def count_record(count: Count, *, is_remote: bool = False) -> CountRecord:
    """A count as stored with its hold."""
    return count.limit.subject, count.limit.unit, count.start, count.end, count.amount, is_remote


def clean(text: str) -> str:
    """Text from outside, short and storable everywhere: no NUL, no lone surrogates, no control characters."""
    printable = "".join(char if char.isprintable() else " " for char in text[: MAX_ERROR_CHARS * 2])
    return printable.encode("utf-8", "replace").decode()[:MAX_ERROR_CHARS]


def _usage(call: Call, estimate: Callable[[Call], Usage]) -> tuple[Usage, str]:
    if call.is_stream and call.outcome in BROKEN and not call.has_output:
        return Usage(), "void"
    reported = call.usage or Usage()
    if call.operation in WITHOUT_OUTPUT and reported.input_tokens is not None:
        reported.output_tokens = 0
    if reported.input_tokens is not None and reported.output_tokens is not None:
        if not _may_be_early(call):
            return reported, "measured"
        delivered = estimate(call).output_tokens or 0
        if delivered <= reported.output_tokens:
            return reported, "measured"
        reported.output_tokens = delivered
        return reported, "estimated"
    has_begun = call.is_answered or reported.input_tokens is not None or reported.output_tokens is not None
    if not call.attempts or not (has_begun or call.outcome == CLIENT_GONE):
        return Usage(), "void"
    counted = estimate(call)
    if reported.input_tokens is None:
        reported.input_tokens, reported.input_audio_tokens = counted.input_tokens, counted.input_audio_tokens
    if reported.output_tokens is None:
        reported.output_tokens = 0 if call.operation in WITHOUT_OUTPUT else counted.output_tokens
        reported.output_audio_tokens = counted.output_audio_tokens
    return reported, "estimated"


def _may_be_early(call: Call) -> bool:
    """Whether the last report may be one from on the way: the stream broke off, or went on with text after it."""
    if not (call.is_stream and call.has_output):
        return False
    is_whole = call.outcome == "ok" or call.is_read_out
    return not is_whole or (call.told_pieces is not None and call.told_pieces < len(call.pieces))


def _bookings(
    takes: Iterable[TakeRecord], usage: Usage, price: Price | None, cost: int, served: int
) -> tuple[Booking, ...]:
    """What each budget is charged. `served`: the model that was tried last; the budgets of others get all back."""
    tokens, is_free = tokens_of(usage), price is None or price.is_free
    found = []
    for budget_id, period_start, amount, unit, is_prepaid, model_id in takes:
        is_spared = (is_prepaid and is_free) or model_id not in {0, served}
        booked = 0 if is_spared else cost if unit == "usd" else tokens
        found.append(Booking(budget_id, period_start, unit, amount, booked))
    return tuple(found)


def _recounts(counts: Iterable[CountRecord], tokens: int) -> tuple[Recount, ...]:
    """What a call that ended with so many tokens gives back to its limits. Requests stay counted."""
    changes = {
        (subject, unit, start, end, is_remote): {"requests": 0, "concurrent": -1}.get(unit, tokens - amount)
        for subject, unit, start, end, amount, is_remote in counts
    }
    return tuple(
        Recount(subject, unit, start, end, change, is_remote)
        for (subject, unit, start, end, is_remote), change in changes.items()
        if change or is_remote
    )


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
