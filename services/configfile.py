"""Reading the configuration file: YAML with providers and models, checked as a whole, every mistake with its line.

`${NAME}` in a text stands for a variable of the environment. Only plain data is read: no tags, no code.
`services/configapply.py` stores what is read here.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services import pricewords
from services.errors import InvalidRequest, UpstreamError
from services.pricewords import MILLION, MOST_INPUT, THOUSAND
from services.providers import common
from services.providers.kinds import KINDS
from services.transport import origin_of
from services.types import Price
from utils.settings import fits_header

MAX_VALUES: Final = 100_000  # anchors that refer to each other could unfold to billions
MAX_DEPTH: Final = 50  # an anchor that refers to itself has no bottom
NOT_PLAIN: Final = (yaml.YAMLError, ValueError, KeyError, AttributeError)  # PyYAML's, of texts that are not their type
EMPTY: Final = "it is empty. To switch off everything it ever made, write `providers: []`"
VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
Rate = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Wait = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]  # seconds
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s/][^\r\n]*$")]


class ConfigFileError(Exception):
    """The file cannot be applied; one line for each mistake, with its place."""

    def __init__(self, path: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join([f"{path} cannot be applied:", *(f"  - {problem}" for problem in problems)]))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ProviderEntry(_Strict):
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


class DeploymentEntry(_Strict):
    """One deployment of a model."""

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    priority: Annotated[int, Field(ge=0, le=1000)] = 1
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class RatesEntry(_Strict):
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


class RoutingEntry(_Strict):
    """How calls of a model find their way; what is not said is as in the settings."""

    strategy: Literal["weight", "latency"] = "weight"
    retries: Annotated[int, Field(ge=0, le=10)] | None = None
    first_byte_s: Wait | None = None
    silence_s: Wait | None = None
    total_s: Wait | None = None
    context_fallbacks: list[str] = []
    content_fallbacks: list[str] = []


class ModelEntry(_Strict):
    """One public model of the file."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]
    deployments: Annotated[list[DeploymentEntry], Field(min_length=1)]
    fallbacks: list[str] = []
    aliases: list[Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]] = []
    routing: RoutingEntry = RoutingEntry()
    price: PriceEntry | None = None
    context_window: Annotated[int, Field(ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    enabled: bool = True


class ConfigFile(_Strict):
    """The whole file."""

    providers: list[ProviderEntry] = []
    models: list[ModelEntry] = []


Path_ = tuple[str | int, ...]


def read(path: Path, environ: Mapping[str, str]) -> ConfigFile:
    """The checked content of a file.

    Raises:
        ConfigFileError: with all mistakes found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigFileError(str(path), [f"it cannot be read: {exc}"]) from exc
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        raise ConfigFileError(str(path), [str(exc).replace("\n", " ")]) from exc
    except RecursionError as exc:
        raise ConfigFileError(str(path), ["it is nested too deep"]) from exc
    reader = _Reader(environ)
    content = reader.value(node, ()) if node is not None else None
    problems = reader.problems
    if reader.has_given_up:
        raise ConfigFileError(str(path), problems[-1:])
    if content is None and not problems:
        raise ConfigFileError(str(path), [EMPTY])
    try:
        file = ConfigFile.model_validate(content)
    except ValidationError as exc:
        problems += [
            f"line {reader.line(mistake['loc'])}: {_words(mistake)}" for mistake in exc.errors(include_url=False)
        ]
    else:
        problems += [f"line {reader.line(place)}: {problem}" for place, problem in _contradictions(file)]
    if problems:
        raise ConfigFileError(str(path), problems)
    return file


class _Reader:
    """Turns YAML nodes into plain values and remembers the line of each."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lines: dict[Path_, int] = {}
        self._seen = 0
        self.problems: list[str] = []
        self.has_given_up = False  # the last problem says why

    def line(self, place: Path_) -> int:
        """The line of a place, or of the nearest one around it that the file has."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def value(self, node: yaml.Node, place: Path_) -> Any:
        """The plain value of a node."""
        self._lines.setdefault(place, node.start_mark.line + 1)
        self._seen += 1
        if self._seen > MAX_VALUES:
            self._give_up(node, f"more than {MAX_VALUES:,} values")
        elif len(place) > MAX_DEPTH:
            self._give_up(node, "nested too deep")
        if self.has_given_up:
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*place, index)) for index, entry in enumerate(node.value)]
        return self._scalar(node)

    def _give_up(self, node: yaml.Node, why: str) -> None:
        if not self.has_given_up:
            self.problems.append(f"line {node.start_mark.line + 1}: {why}")
            self.has_given_up = True

    def _pairs(self, node: yaml.MappingNode, place: Path_) -> Iterator[tuple[str, Any]]:
        seen = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in seen:
                self.problems.append(f"line {key_node.start_mark.line + 1}: `{key}` stands twice in one place")
            seen.add(key)
            self._lines[(*place, key)] = key_node.start_mark.line + 1
            yield key, self.value(value_node, (*place, key))

    def _scalar(self, node: yaml.Node) -> Any:
        constructor = yaml.SafeLoader("")
        try:
            value = constructor.construct_object(node)
        except NOT_PLAIN:
            self.problems.append(f"line {node.start_mark.line + 1}: `{node.tag}` is not plain data")
            return None
        finally:
            constructor.dispose()
        return VARIABLE.sub(lambda match: self._variable(match[1], node), value) if isinstance(value, str) else value

    def _variable(self, name: str, node: yaml.Node) -> str:
        value = self._environ.get(name)
        if value is None:
            self.problems.append(f"line {node.start_mark.line + 1}: the variable `{name}` is not set")
        return value or ""


def _words(mistake: Any) -> str:
    place = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"`{place}` is not a key this file may have"
    if mistake["type"] == "string_type" and isinstance(mistake["input"], bool | int | float):
        return f"`{place}`: {mistake['msg']}; quotes make one of what YAML reads as a number, or as true or false"
    return f"`{place}`: {mistake['msg'].removeprefix('Value error, ')}"


def _aliases_taken(file: ConfigFile) -> Iterator[tuple[Path_, str]]:
    """Aliases that nobody would reach: they are a model's name, or another alias."""
    taken = {entry.name for entry in file.models}
    for index, entry in enumerate(file.models):
        for number, alias in enumerate(entry.aliases):
            if alias in taken:
                yield ("models", index, "aliases", number), f"the alias `{alias}` is the name of a model already"
            taken.add(alias)


def _contradictions(file: ConfigFile) -> Iterator[tuple[Path_, str]]:
    """Names that stand twice, and models that would fall back on themselves."""
    names = {"providers": [entry.name for entry in file.providers], "models": [entry.name for entry in file.models]}
    for kind, given in names.items():
        for index, name in enumerate(given):
            if name in given[:index]:
                yield (kind, index, "name"), f"`{name}` is named twice"
    yield from _aliases_taken(file)
    for index, entry in enumerate(file.models):
        used = [(deployment.provider, deployment.model) for deployment in entry.deployments]
        for number, (provider, model) in enumerate(used):
            if (provider, model) in used[:number]:
                yield ("models", index, "deployments", number), f"`{model}` at `{provider}` is there twice"
        if entry.name in entry.fallbacks:
            yield ("models", index, "fallbacks"), f"`{entry.name}` cannot fall back on itself"
