"""A gateway's models for the scripts of this folder: one for each wire, each on a fake vendor that speaks it."""

from typing import NamedTuple

from flask import Flask

from tests.fakes.vendor_server import Vendors
from tests.helpers import add_model, add_provider


class Wire(NamedTuple):
    """How a model is reached."""

    kind: str
    model: str  # the vendor's name of it
    base_path: str = ""
    settings: tuple[tuple[str, object], ...] = ()
    credential: str = ""  # empty: the one by which the fake vendor knows the wire
    embeds: bool = True


SIGNED = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
WIRES = {  # by the public name of their model
    "openai": Wire("openai", "gpt-4o-mini", "/v1", (("responses", False),)),
    "responses": Wire("openai", "gpt-4o-mini", "/v1", (("responses", True),)),
    "anthropic": Wire("anthropic", "claude-sonnet-4-5", embeds=False),
    "gemini": Wire("gemini", "gemini-3-pro-preview"),
    "bedrock": Wire(
        "bedrock",
        "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        settings=(("region", "eu-west-3"),),
        credential=SIGNED,
        embeds=False,
    ),
}


def with_wires(app: Flask, vendors: Vendors) -> Flask:
    """The app with a model for each wire."""
    for name, wire in WIRES.items():
        provider = add_provider(
            app,
            vendors.url + wire.base_path,
            f"at-{name}",
            kind=wire.kind,
            credential=wire.credential or f"key-of-{name}",
            settings=dict(wire.settings),
        )
        add_model(app, provider, name, upstream_model=wire.model)
    return app
