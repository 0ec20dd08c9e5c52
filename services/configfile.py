"""Reading the configuration file: YAML, checked as a whole, every mistake with its line.

`${NAME}` in a text stands for a variable of the environment, `$${NAME}` for itself. Only plain data is read: no tags,
no code.
`services/configapply.py` stores what is read here.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from services.configentries import ConfigFile, Place

MAX_VALUES: Final = 100_000  # anchors that refer to each other could unfold to billions
MAX_DEPTH: Final = 50  # an anchor that refers to itself has no bottom
NOT_PLAIN: Final = (yaml.YAMLError, ValueError, KeyError, AttributeError)  # PyYAML's, of texts that are not their type
EMPTY: Final = "it is empty. To switch off everything it ever made, write `providers: []`"
VARIABLE: Final = re.compile(r"(\$+)\{(\w+)\}")


class ConfigFileError(Exception):
    """The file cannot be applied; one line for each mistake, with its place."""

    def __init__(self, path: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join([f"{path} cannot be applied:", *(f"  - {problem}" for problem in problems)]))


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
        file.lines_by(reader.line)
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
        self._lines: dict[Place, int] = {}
        self._seen = 0
        self.problems: list[str] = []
        self.has_given_up = False  # the last problem says why

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest one around it that the file has."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def value(self, node: yaml.Node, place: Place) -> Any:
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

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
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
        return VARIABLE.sub(lambda match: self._variable(match, node), value) if isinstance(value, str) else value

    def _variable(self, match: re.Match[str], node: yaml.Node) -> str:
        if len(match[1]) > 1:
            return match[0][1:]
        name = match[2]
        value = self._environ.get(name)
        if value is None:
            self.problems.append(f"line {node.start_mark.line + 1}: the variable `{name}` is not set")
        return value or ""


def escaped(text: str) -> str:
    """The text as a file has it, so that reading it gives the same again."""
    return VARIABLE.sub(lambda match: "$" + match[0], text)


def _words(mistake: Any) -> str:
    place = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"`{place}` is not a key this file may have"
    if mistake["type"] == "string_type" and isinstance(mistake["input"], bool | int | float):
        return f"`{place}`: {mistake['msg']}; quotes make one of what YAML reads as a number, or as true or false"
    return f"`{place}`: {mistake['msg'].removeprefix('Value error, ')}"


def _aliases_taken(file: ConfigFile) -> Iterator[tuple[Place, str]]:
    """Aliases that nobody would reach: they are a model's name, or another alias."""
    taken = {entry.name for entry in file.models}
    for index, entry in enumerate(file.models):
        for number, alias in enumerate(entry.aliases):
            if alias in taken:
                yield ("models", index, "aliases", number), f"the alias `{alias}` is the name of a model already"
            taken.add(alias)


def _contradictions(file: ConfigFile) -> Iterator[tuple[Place, str]]:
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
