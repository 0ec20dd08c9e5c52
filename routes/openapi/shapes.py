"""Words for JSON schemas, so that a table of them reads like the JSON it describes."""

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

USERNAME: Final = r"^[^\s/\\<>\"'`]+$"  # a pattern
ANY: Final[Schema] = {}  # whatever the provider or its client says


def text(about: str = "", **more: Any) -> Schema:
    """A string; `more` are keywords of JSON Schema."""
    return _typed("string", about, more)


def whole(about: str = "", **more: Any) -> Schema:
    """A whole number."""
    return _typed("integer", about, more)


def number(about: str = "", **more: Any) -> Schema:
    """A number."""
    return _typed("number", about, more)


def flag(about: str = "", **more: Any) -> Schema:
    """True or false."""
    return _typed("boolean", about, more)


def listed(entry: Schema, about: str = "", **more: Any) -> Schema:
    """An array."""
    return _typed("array", about, {"items": entry, **more})


def one_of(*values: str, about: str = "") -> Schema:
    """One of these strings."""
    return _typed("string", about, {"enum": list(values)})


def always(value: str) -> Schema:
    """That string and no other."""
    return {"type": "string", "const": value}


def opened(needed: Mapping[str, Schema], other: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """An object that may have more members than these, as what vendors define has."""
    members = {**needed, **(other or {})}
    return _typed("object", about, {"properties": members} | ({"required": list(needed)} if needed else {}))


def closed(needed: Mapping[str, Schema], other: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """An object that has these members and no others, as our own answers are."""
    return opened(needed, other, about) | {"additionalProperties": False}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema and "const" not in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def maybe(members: Mapping[str, Schema]) -> dict[str, Schema]:
    """The same members, of which each may be null."""
    return {name: or_null(schema) for name, schema in members.items()}


def either(*schemas: Schema) -> Schema:
    """What fits one of these, or several."""
    return {"anyOf": list(schemas)}


def ref(name: str) -> Schema:
    """The schema of that name in the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _typed(kind: str, about: str, more: Mapping[str, Any]) -> Schema:
    return {"type": kind} | ({"description": about} if about else {}) | dict(more)
