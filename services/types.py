"""The records that cross module borders. Plain data."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.errors import CallerGone, Draining, GatewayError, Unsupported
from services.marks import Marks
from utils.forms import Upload

if TYPE_CHECKING:
    from services.bodies import Record
    from services.caching import Caching
    from services.counting import Room
    from services.exchange import Abortable
    from services.guards.guard import Guard
    from services.steps import Route, Step
    from services.traces import Span

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Chat = dict[str, Any]  # a request or answer body in OpenAI's format: the hub all wires translate from and to
CHAT: Final = "chat"
COMPLETION: Final = "completion"
EMBEDDING: Final = "embedding"
MODERATION: Final = "moderation"
IMAGE: Final = "image"
IMAGE_EDIT: Final = "image_edit"
IMAGE_VARIATION: Final = "image_variation"
SPEECH: Final = "speech"
TRANSCRIPTION: Final = "transcription"
TRANSLATION: Final = "translation"
RERANK: Final = "rerank"
WITHOUT_OUTPUT: Final = frozenset({EMBEDDING, MODERATION, RERANK})  # their answers generate no tokens
ChargeLine = tuple[str, int, int]  # what, units, rate: see services/pricing.py


@dataclass(frozen=True, slots=True)
class BudgetRef:
    """A budget that applies to a caller. What is left of it stands only in the database."""

    id: int
    scope: str  # "user", "key", "team" or "model"
    unit: str  # "usd" (nano-USD) or "tokens"
    period: str
    timezone: str
    is_prepaid: bool
    scope_id: int = 0
    warn_percent: int | None = None
    owner: str = ""  # the name of the model it is for


@dataclass(frozen=True, slots=True)
class LimitRef:
    """A limit that applies to a call. How much of it is used stands only in its counter, which `subject` names."""

    subject: str
    scope: str  # "key", "user", "team", "model" or "address"
    unit: str  # "requests", "tokens" or "concurrent"
    amount: int
    period: str = "none"  # "second" to "month", or "none" for concurrent calls
    seconds: int = 0  # the length of a period that has no name


@dataclass(frozen=True, slots=True)
class PathRule:
    """A path that a caller may use, and how; an empty method allows all."""

    path: str
    method: str = ""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a key's calls may take at most, in seconds; None = as their model or the settings say."""

    first_byte_s: float | None = None
    silence_s: float | None = None  # between two bytes
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as of one snapshot."""

    user_id: int
    username: str
    role: str
    key_id: int | None = None  # None: signed in by token
    key_hint: str | None = None
    allowed_models: frozenset[str] | None = None  # of the key, user and team together; None: all
    expires_at_s: float | None = None
    budgets: tuple[BudgetRef, ...] = ()  # in id order, the order in which they are taken
    limits: tuple[LimitRef, ...] = ()
    team_id: int | None = None
    team: str | None = None
    allowed_paths: tuple[tuple[str, tuple[PathRule, ...]], ...] = ()  # whose rules, and the rules; each must allow
    allowed_ips: tuple[Network, ...] | None = None
    providers: frozenset[int] | None = None  # the provider accounts its calls may go to; None: all
    keeps_request: bool = False
    keeps_response: bool = False
    timeouts: Timeouts = Timeouts()
    locale: str | None = None  # the language that the user chose

    def may_use(self, model: str) -> bool:
        """Whether key, user and team all allow the model."""
        return self.allowed_models is None or model in self.allowed_models

    def may_reach(self, deployment: "Deployment") -> bool:
        """Whether the key's calls may go to the deployment's provider."""
        return self.providers is None or deployment.upstream.id in self.providers


@dataclass(frozen=True, slots=True)
class Rates:
    """What tokens cost, in nano-USD per million. None = as the kind they are part of."""

    input_rate: int
    output_rate: int
    cache_read_rate: int | None = None  # part of input
    cache_creation_rate: int | None = None  # part of input
    cache_creation_1h_rate: int | None = None  # part of cache creation: kept for an hour
    input_audio_rate: int | None = None  # part of input
    output_audio_rate: int | None = None  # part of output
    reasoning_rate: int | None = None  # part of output


@dataclass(frozen=True, slots=True)
class Tier(Rates):
    """The rates of all tokens of a call whose input is larger than this."""

    above: int = 0  # input tokens


@dataclass(frozen=True, slots=True)
class Price(Rates):
    """What a call costs: its tokens, and what it costs besides."""

    request_nanousd: int = 0
    image_nanousd: int = 0  # for each made image
    tiers: tuple[Tier, ...] = ()  # by rising `above`
    is_free: bool = False
    source: str = "unknown"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider account, ready to be called. The credential never appears in a repr."""

    id: int
    name: str
    kind: str
    base_url: str
    credential: str = field(default="", repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One upstream model that serves a public model. `price` None = nobody knows."""

    id: int
    upstream: Upstream
    model: str
    priority: int
    weight: int
    price: Price | None
    model_id: int = 0  # the public model it belongs to


@dataclass(frozen=True, slots=True)
class Routing:
    """How calls of a model find their way. None = as the settings say."""

    strategy: str = "weight"  # or "latency": within a priority, the one that began to answer soonest lately
    retries: int | None = None  # rounds over all deployments after the first
    first_byte_s: float | None = None
    silence_s: float | None = None  # between two bytes
    total_s: float | None = None
    context_fallbacks: tuple[str, ...] = ()  # models for what is too long for this one
    content_fallbacks: tuple[str, ...] = ()  # … for what its provider's content policy refuses
    cache_s: float | None = None  # so long an answer is given again; None = never
    cache_shared: bool = False  # … to callers of other keys too


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A name callers use."""

    name: str
    owned_by: str
    created_s: int
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    context_window: int | None = None
    max_output_tokens: int | None = None
    id: int = 0
    budgets: tuple[BudgetRef, ...] = ()
    limits: tuple[LimitRef, ...] = ()
    aliases: tuple[str, ...] = ()
    routing: Routing = Routing()


@dataclass(slots=True)
class Usage:
    """Tokens of one call. None = the upstream did not say; 0 = it said zero.

    input_tokens includes cached (cache_creation: for an hour, too) and audio, output_tokens reasoning and audio tokens.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cache_creation_1h_input_tokens: int | None = None
    images: int | None = None  # made


@dataclass(frozen=True, slots=True)
class Take:
    """What a hold took from one budget, in the period the call began in."""

    budget: BudgetRef
    period_start: int  # unix seconds; 0 = the budget has no period
    amount: int  # nano-USD or tokens, as the budget counts


@dataclass(frozen=True, slots=True)
class WindowState:
    """A limit's counter as stored."""

    period_start: int = 0
    period_end: int = 0
    used_amount: int = 0
    previous_amount: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """What a hold counts against one limit, in the period that its clock says."""

    limit: LimitRef
    amount: int
    start: int  # unix seconds; 0 = the limit is of calls under way
    end: int
    left_ppm: int  # how much of the period before still counts, in millionths; 0 = the window does not slide

    def used(self, current: int, previous: int) -> int:
        """What counts now, from what was used in this period and in the one before."""
        return current - (-previous * self.left_ppm // 1_000_000)

    @property
    def counts_from_s(self) -> int:
        """The moment from which calls count: with a window that slides, from the period before."""
        return 2 * self.start - self.end if self.left_ppm else self.start


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call may use: input proven, output per choice as its caller limits it, or else as its model does."""

    input_tokens: int
    choices: int
    output_tokens: int | None  # the caller's limit; None = none given
    most_output_tokens: int  # the model's own limit
    is_bounded: bool = True  # false: nobody can say how much input there is
    images: int = 0  # to be made


@dataclass(frozen=True, slots=True)
class Bound:
    """The most a call can use: proven for input, promised by the output limit it is sent with."""

    input_tokens: int
    output_tokens: int
    images: int = 0  # to be made


@dataclass(slots=True)
class Attempt:
    """One try at one deployment."""

    deployment: Deployment
    happened: str = ""  # empty: the call's own outcome
    began_s: float = 0.0  # monotonic


@dataclass(slots=True)
class Reply:
    """An answer of the Responses API in the making: whoever writes it, its id and its past are the gateway's own."""

    head: Chat  # the members that are so, whatever an upstream says
    given: list[Chat]  # the input of this call alone, as items
    whole: Chat | None = None  # the answer, as far as it came
    next_number: int = 0  # of the events of its stream
    keep: Callable[["Call"], None] | None = None  # called once it ended well; must not fail


@dataclass(slots=True, eq=False)
class Call:
    """The life of one request: filled in stage by stage, booked once."""

    id: str
    operation: str
    body: Chat
    caller: Caller
    started_ms: int
    started_s: float  # monotonic
    body_bytes: int = 0
    address: str = ""  # of the client
    is_stream: bool = False
    is_binary: bool = False  # its stream is bytes of `content_type`, not events
    wants_usage: bool = False  # the hub's stream shall have a usage event
    uploads: tuple[Upload, ...] = ()
    upload_tokens: int = 0  # what they come to, roughly: for an estimate
    dialect: str = "openai"  # what the caller speaks
    native: Chat | None = None  # the caller's own body, where `body` is its translation into the hub format
    forwarded: tuple[tuple[str, str], ...] = ()  # headers of the caller for an upstream of the same dialect
    is_native: bool = False  # the upstream was asked, and answers, in the caller's own dialect
    native_only: Unsupported | None = None  # why only an upstream that speaks the caller's dialect can serve it
    untranslated: tuple[str, ...] = ()  # members of `native` that tune it and that the hub format has no word for
    reply: Reply | None = None
    record: "Record | None" = None  # what is kept of its texts
    store: Callable[[bytes], object] | None = None  # told a whole answer before it is booked; must not fail
    model: PublicModel | None = None
    candidates: tuple[Deployment, ...] = ()
    detours: Mapping[int, str] = field(default_factory=dict)  # candidates that wait for a reason, by their number
    route: "Route | None" = None  # it was called by
    step: "Step | None" = None  # of the route, which it is at
    bound: Bound | None = None
    max_output_tokens: int | None = None  # put into the request because a budget applies and the caller gave none
    takes: tuple[Take, ...] = ()
    gone: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # Held.budgets of its admission
    model_budgets: tuple[BudgetRef, ...] = ()  # of the models it may go to
    limits: tuple[LimitRef, ...] = ()
    counts: tuple[Count, ...] = ()  # against its limits, in the database
    remote_counts: tuple[Count, ...] = ()  # … in Valkey or Redis
    room: "tuple[Room, ...]" = ()  # what its admission found of its limits
    span: "Span | None" = None  # where it stands in its trace, if calls are traced
    warnings: tuple[str, ...] = ()  # budgets that are nearly spent
    custom_id: str | None = None
    client_metadata: str | None = None
    marks: Marks = field(default_factory=Marks)
    guard: "Guard | None" = None  # the policies that apply to it
    is_judging: bool = False  # the gateway itself asks what a policy wants to know, so that no policy applies
    caching: "Caching | None" = None  # what its caller wants of the cache, and what came of it; None: it has no part
    fingerprint: str | None = None  # of the request, where its caller may repeat it
    cost_nanousd: int = 0  # as booked
    is_overrun: bool = False  # … which was more than was held
    prompt: str | None = None  # the stored prompt that it was made from, as `name@3`
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    pieces: list[str] = field(default_factory=list)  # generated text that was handed on, for an estimate
    told_pieces: int | None = None  # how many there were when its stream told its usage last; None: only its end does
    media_tokens: int = 0  # what was handed on besides text, roughly, for the same
    is_finished: bool = False  # booked, or being booked
    is_answered: bool = False  # an upstream began a good answer
    first_byte_s: float | None = None
    status: int = 200
    outcome: str = "pending"
    error: str | None = None
    dropped: list[str] = field(default_factory=list)
    content_type: str = "application/json"  # of a whole answer, or a binary stream
    upstream_type: str = ""  # the content type that the upstream gave its answer
    upstream_headers: Mapping[str, str] = field(default_factory=dict)  # those of the upstream that its caller may see
    abort_reason: GatewayError | None = None
    exchange: "Abortable | None" = None  # with the upstream that is asked now
    drain_until_s: float | None = None  # its caller has left, and its answer is read on until then (monotonic)
    is_read_out: bool = False  # … up to its end, which nobody was there to take
    upstream_s: float = 0.0  # spent waiting for upstreams, until an answer began or was whole

    @property
    def deployment(self) -> Deployment | None:
        """The deployment tried last."""
        return self.attempts[-1].deployment if self.attempts else None

    @property
    def has_output(self) -> bool:
        """Whether anything was generated that its caller has or is about to get."""
        return bool(self.pieces or self.media_tokens)

    def abort(self, reason: GatewayError) -> None:
        """End the call from another thread; its reader finds `abort_reason`."""
        self.abort_reason = self.abort_reason or reason
        if (exchange := self.exchange) is not None:  # its reader may take it away meanwhile
            exchange.shutdown()

    def abort_gone(self) -> None:
        """The caller has left."""
        self.abort(CallerGone("the caller closed the connection"))

    def abort_draining(self) -> None:
        """The worker must end now."""
        self.abort(Draining("this worker is shutting down; please send the request again"))
