"""What makes thousands of apps and databases in one run affordable."""

import gc
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from flask import Flask
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.routing import Rule
from werkzeug.routing.rules import RulePart

MEMORY: Final = "/dev/shm"
NEEDED: Final = 4 * 2**30  # bytes; smaller ones, as in some containers, would fill up


def use_memory() -> None:
    """Keep files in memory where there is enough: copying a database on a disk takes five times as long."""
    if Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free >= NEEDED:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def folder() -> str | None:
    """Where temporary folders go; None = where the system has them."""
    return os.environ.get("PYTEST_DEBUG_TEMPROOT")


def share_url_builders() -> None:
    """Compile how an address is built once for all apps, not for each: that is four fifths of making one."""
    compiled, made = Rule._compile_builder, {}  # type: ignore[attr-defined]  # a private member of werkzeug

    def once(self: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key: Any = (self.rule, tuple(self._trace), repr(self.defaults), append_unknown)  # type: ignore[attr-defined]  # a private member of werkzeug
        if key not in made:
            made[key] = compiled(self, append_unknown)
        return made[key]

    Rule._compile_builder = once  # type: ignore[attr-defined]  # a private member of werkzeug


def share_parsed_rules() -> None:
    """Read the rules that have no variables once for all apps."""
    parse, made = Rule._parse_rule, {}  # type: ignore[attr-defined]  # a private member of werkzeug

    def once(self: Rule, rule: str) -> Iterable[RulePart]:
        if "<" in rule:
            return parse(self, rule)
        trace = self._trace  # type: ignore[attr-defined]  # a private member of werkzeug
        if rule not in made:
            before = len(trace)
            made[rule] = list(parse(self, rule)), trace[before:]
        else:
            trace += made[rule][1]
        return made[rule][0]

    Rule._parse_rule = once  # type: ignore[method-assign]  # a private member of werkzeug


def freeze() -> None:
    """Leave what there is now out of garbage collections: with it they are nearly half of what making an app costs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class KeptTemplates(BytecodeCache):
    """Compiled templates, by their place and source."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.made.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.made[bucket.key, bucket.checksum] = bucket.code


def share_templates() -> None:
    """Compile a template once for all apps: with an app for each test it is most of what a page costs."""
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": KeptTemplates()}
