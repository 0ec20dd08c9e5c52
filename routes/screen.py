"""What a start prints: one screen for a person, without a secret that was shown before."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from config import Config
from services.bootstrap import Report
from services.configapply import Changes
from utils import settings

ANOTHER_ADMIN = "Make another admin with: .venv/bin/flask create-admin NAME"
NOTHING = "nothing to change"
MARKS: Final = {"added": "+", "changed": "~", "adopted": "~", "switched off": "~", "removed": "-"}
NO_ADMIN = "none yet; make one with: .venv/bin/flask create-admin NAME"


def started(config: Config, report: Report, url: str) -> str:
    """The screen of `flask prepare`."""
    address = url or f"http://{config.host}:{config.port or settings.GUNICORN_PORT}"
    key = report.api_key or "YOUR_API_KEY"
    lines = [
        "",
        f"  Tollhouse  {address}",
        "",
        f"  Admin panel   {address}/admin",
        f"  Admin         {report.admin_name or NO_ADMIN}",
    ]
    lines += [f"  {text}   http://{config.host}:{port}" for text, port in _ports(config) if port is not None]
    if report.admin_password:
        lines.append(f"  Password      {report.admin_password}   (shown once)")
    if report.api_key:
        lines.append(f"  API key       {report.api_key}   (shown once)")
    if report.admin_name and not report.api_key:
        lines.append("  Passwords and keys are shown when they are made and never again; make new ones in the panel.")
        lines.append(f"  Nobody knows the password? {ANOTHER_ADMIN}")
    model = "echo" if config.has_echo else "MODEL"
    lines += [
        "",
        "  Try it:",
        "",
        f"    curl {address}/v1/chat/completions \\",
        f"      -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\",
        f"""      -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'""",
        "",
        f"  Database: from {config.database[1]}. Settings: docs/configuration.md.",
    ]
    if report.changes is not None:
        lines += ["", f"  {config.config_file}:", *(f"    {line}" for line in changes(report.changes).splitlines())]
    notes = [*config.warnings, *(f"Models not listed by {problem}" for problem in report.discovery)]
    return "\n".join([*lines, *(f"  Note: {note}" for note in notes), ""])


def _ports(config: Config) -> tuple[tuple[str, int | None], ...]:
    return ("Admin only ", config.admin_port), ("Proxy only ", config.proxy_port)


def changes(found: Changes) -> str:
    """What applying a configuration file did."""
    lines = [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("added", found.added),
            ("changed", found.changed),
            ("switched off", found.switched_off),
            ("removed", found.removed),
        )
        if names
    ]
    return "\n".join([*(lines or [NOTHING]), *(f"note: {note}" for note in found.notes)])


def plan(found: Changes) -> str:
    """What applying a file would do: each row with what it says now and would say then."""
    lines = []
    for change in found.made:
        place = "" if change.line is None else f" (line {change.line})"
        lines.append(f"{MARKS[change.what]} {change}: {change.what}{place}")
        for name in dict.fromkeys([*change.before, *change.after]):
            before, after = (_value(side, name) for side in (change.before, change.after))
            if before != after:
                lines.append(f"    {name}: {before or '-'} -> {after or '-'}")
    return "\n".join([*(lines or [NOTHING]), *(f"note: {note}" for note in found.notes)])


def plan_record(found: Changes) -> dict[str, Any]:
    """The same for programs."""
    return {"changes": [asdict(change) for change in found.made], "notes": found.notes}


def _value(side: Mapping[str, Any], name: str) -> str:
    return json.dumps(side[name], ensure_ascii=False) if name in side else ""
