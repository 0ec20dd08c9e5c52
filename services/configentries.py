"""What may stand in the configuration file: an entry for each kind of thing, checked by itself.

services/configfile.py reads them from YAML, services/configexport.py writes them.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from services import agents, budgets, counting, limits, pricewords
from services.dialects import dialogs_fields
from services.errors import GatewayError, InvalidRequest, UpstreamError
from services.periods import PERIODS
from services.pricewords import MILLION, MOST_INPUT, THOUSAND
from services.providers import common
from services.providers.kinds import KINDS
from services.transport import origin_of
from services.types import Price
from utils.settings import fits_header

Rate = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Place = tuple[str | int, ...]
Wait = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]  # seconds
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s/][^\r\n]*$")]
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]
TeamName = Annotated[str, Field(min_length=1, max_length=150, pattern=r"^\S(.*\S)?$")]
ENVIRONMENT: Final = "env:"  # an `api_key` that begins so names a variable; unset, the stored key stays
WHOSE: Final = ("team", "model", "user", "key", "every_address")
UNKNOWN: Final = "unknown"


class Strict(BaseModel):
    """An object of the file: no member that nobody knows, and no value of one in a message."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def told(self) -> dict[str, Any]:
        """What a file would say: usual values left out, amounts as numbers."""
        found: dict[str, Any] = _plain(self.model_dump(exclude_defaults=True))
        return found


class ProviderEntry(Strict):
    """One provider of the file."""

    name: Name
    kind: str
    base_url: Annotated[str, Field(max_length=500)] = ""
    api_key: str = ""
    settings: dict[str, Any] = {}
    discover: bool | None = None  # None: as usual for the kind, which is yes for ollama
    enabled: bool = True

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"`{kind}` is none of {', '.join(KINDS)}")
        return kind

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, api_key: str) -> str:
        if not fits_header(api_key):
            raise ValueError("has characters other than ASCII, which no header can carry")
        return api_key

    @model_validator(mode="after")
    def _has_address(self) -> "ProviderEntry":
        self.base_url = KINDS[self.kind].address(self.base_url)
        if self.discover == KINDS[self.kind].discovers:
            self.discover = None
        if not KINDS[self.kind].is_local:
            try:
                origin_of(self.base_url)
            except UpstreamError as exc:
                raise ValueError(f"base_url: {exc}") from exc
        for check in (common.check, KINDS[self.kind].check):
            try:
                if check is not None:
                    check(self.settings)
            except InvalidRequest as exc:
                raise ValueError(f"settings: {exc}") from exc
        return self


class RatesEntry(Strict):
    """USD per million tokens; `_per_1k` instead of `_per_million` for USD per thousand."""

    input_per_million: Rate | None = None
    output_per_million: Rate | None = None
    cached_input_per_million: Rate | None = None
    cache_write_per_million: Rate | None = None
    cache_write_1h_per_million: Rate | None = None
    input_audio_per_million: Rate | None = None
    output_audio_per_million: Rate | None = None
    reasoning_per_million: Rate | None = None

    @model_validator(mode="before")
    @classmethod
    def _per_million(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        found = dict(given)
        for name in [name for name in given if name in pricewords.FIELDS and name.endswith(THOUSAND)]:
            named, value = name.removesuffix(THOUSAND) + MILLION, found.pop(name)
            if named in found:
                raise ValueError(f"`{name}` says again what `{named}` says")
            try:
                found[named] = Decimal(str(value)) * 1000
            except InvalidOperation as exc:
                raise ValueError(f"`{name}` is not an amount in USD") from exc
        return found


class TierEntry(RatesEntry):
    """Rates of all tokens of a call with more input than this."""

    above: Annotated[int, Field(gt=0, le=MOST_INPUT)]


class PriceEntry(RatesEntry):
    """What a call costs, or that it is free."""

    per_request: Rate | None = None
    per_image: Rate | None = None
    tiers: list[TierEntry] = []
    free: bool = False

    @model_validator(mode="after")
    def _can_be(self) -> "PriceEntry":
        self.price("file")
        return self

    def price(self, source: str) -> Price:
        """The price as calls know it.

        Raises:
            ValueError: there can be no such price.
        """
        given = self.model_dump(exclude={"tiers", "free"}, exclude_none=True)
        tiers = [tier.model_dump(exclude_none=True) for tier in self.tiers]
        try:
            return pricewords.read(given, source=source, tiers=tiers, is_free=self.free)
        except InvalidRequest as exc:
            raise ValueError(str(exc)) from exc


class DeploymentEntry(Strict):
    """One deployment of a model."""

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    priority: Annotated[int, Field(ge=0, le=1000)] = 1
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    enabled: bool = True
    price: PriceEntry | None = None  # None: the model's


class RoutingEntry(Strict):
    """How calls of a model find their way; what is not said is as in the settings."""

    strategy: Literal["weight", "latency"] = "weight"
    retries: Annotated[int, Field(ge=0, le=10)] | None = None
    first_byte_s: Wait | None = None
    silence_s: Wait | None = None
    total_s: Wait | None = None
    context_fallbacks: list[str] = []
    content_fallbacks: list[str] = []
    cache_s: Annotated[float, Field(ge=1, le=2_592_000)] | None = None
    cache_shared: bool = False

    def fallbacks(self) -> dict[str, list[str]]:
        """The models that calls go on to, by member."""
        return {"context_fallbacks": self.context_fallbacks, "content_fallbacks": self.content_fallbacks}


class ModelEntry(Strict):
    """One public model of the file."""

    name: ModelName
    description: Annotated[str, Field(max_length=500)] | None = None
    owned_by: Annotated[str, Field(min_length=1, max_length=100)] | None = None  # None: as it is, or tollhouse
    deployments: Annotated[list[DeploymentEntry], Field(min_length=1)]
    fallbacks: list[str] = []
    aliases: list[ModelName] = []
    routing: RoutingEntry = RoutingEntry()
    price: PriceEntry | None = None
    context_window: Annotated[int, Field(ge=1)] | Literal["unknown"] | None = None  # None: as the catalogue knows it
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    enabled: bool = True

    def told(self) -> dict[str, Any]:
        """See Strict; where calls go to in the order in which it is tried."""
        found = super().told()
        found["deployments"].sort(key=lambda one: (one.get("priority", 1), one["provider"], one["model"]))
        return found


class TeamEntry(Strict):
    """One team; who is in it is no matter of the file."""

    name: TeamName
    allowed_models: list[ModelName] | None = None  # None: all


class OwnedEntry(Strict):
    """Whose a budget or limit is: exactly one of these."""

    team: str | None = None
    model: str | None = None
    user: str | None = None
    key: str | None = None  # its UUID

    @model_validator(mode="after")
    def _has_one_owner(self) -> "OwnedEntry":
        if sum(bool(getattr(self, name, None)) for name in WHOSE) != 1:
            raise ValueError(f"name one of {', '.join(name for name in WHOSE if hasattr(self, name))}")
        return self

    @property
    def owner(self) -> tuple[str, str]:
        """Scope and name."""
        return next(((name, given) for name in WHOSE[:-1] if (given := getattr(self, name))), ("address", ""))


class BudgetEntry(OwnedEntry):
    """One budget."""

    unit: Literal["usd", "tokens"]
    period: str = "total"
    limit: Decimal
    timezone: str = "UTC"
    warn_percent: Annotated[int, Field(ge=1, le=100)] | None = budgets.WARN_PERCENT

    @model_validator(mode="after")
    def _can_be(self) -> "BudgetEntry":
        try:
            budgets.parse_limit(self.unit, str(self.limit))
            budgets.check_timezone(self.timezone)
        except InvalidRequest as exc:
            raise ValueError(str(exc)) from exc
        if self.period not in PERIODS:
            raise ValueError(f"`{self.period}` is none of {', '.join(PERIODS)}")
        return self


class LimitEntry(OwnedEntry):
    """One limit."""

    every_address: bool = False
    unit: str
    period: str = ""
    limit: int

    @model_validator(mode="after")
    def _can_be(self) -> "LimitEntry":
        self.period = self.period or (counting.NONE if self.unit == counting.CONCURRENT else "minute")
        try:
            limits.check_kind(self.unit, self.period)
            limits.parse_amount(self.limit)
        except InvalidRequest as exc:
            raise ValueError(str(exc)) from exc
        return self


class StepEntry(Strict):
    """One step of a route, as the management API has it."""

    provider: str
    model: str
    retries: int = 0
    timeout: str = ""
    retry_interval: str = ""
    params: dict[str, Any] = {}
    request_params: dict[str, Any] = {}


class CacheEntry(Strict):
    """How long a route's answers are kept."""

    enabled: bool = False
    ttl: str = ""


class RouteEntry(Strict):
    """One route; services/callroutes.py knows what its members may say."""

    path: str
    name: str
    keys: list[str] | None = None  # UUIDs; None: as they are, of a new route none
    steps: list[StepEntry]
    cache: CacheEntry = CacheEntry()
    retry_strategy: str = "exponential"


class AgentEntry(Strict):
    """One agent for everybody."""

    name: str
    description: str = ""
    system_prompt: str | None = None
    model_name: str | None = None
    config: dict[str, Any] = {}

    @model_validator(mode="after")
    def _can_be(self) -> "AgentEntry":
        try:
            dialogs_fields.read(dialogs_fields.AGENT, self.model_dump())
        except GatewayError as exc:
            raise ValueError(str(exc)) from exc
        if self.name in agents.PRESETS:
            raise ValueError(f"`{self.name}` is built in")
        return self


class ValueEntry(Strict):
    """One configuration value. Secret ones stay where they are."""

    key: str
    value: str | None = None
    description: str = ""


class ConfigFile(Strict):
    """The whole file."""

    providers: list[ProviderEntry] = []
    models: list[ModelEntry] = []
    teams: list[TeamEntry] = []
    budgets: list[BudgetEntry] = []
    limits: list[LimitEntry] = []
    routes: list[RouteEntry] = []
    agents: list[AgentEntry] = []
    values: list[ValueEntry] = []
    _line: Callable[[Place], int] | None = PrivateAttr(default=None)

    def line(self, place: Place) -> int:
        """The line in which a place stands."""
        return 1 if self._line is None else self._line(place)

    def lines_by(self, line: Callable[[Place], int]) -> None:
        """Have this function say where places stand."""
        self._line = line


def _plain(value: Any) -> Any:
    """The value for YAML and JSON; an amount that no float holds exactly is a text."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if not isinstance(value, Decimal):
        return value
    if value == value.to_integral_value():
        return int(value)
    text = f"{value.normalize():f}"
    return float(text) if f"{Decimal(repr(float(text))):f}" == text else text
