"""Pages of docs/ and `.env.example`, which are written from the code, so that they cannot disagree with it."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from config import Config, marks
from services import errors
from services.credentials import masked
from services.errors import GatewayError

CONFIGURATION_HEAD: Final = """# Configuration

Generated from `config.py` by `make docs`; do not edit.

Settings come from the environment, then from `.env` in the root folder, then from `secrets.env` in the instance
folder (made at the first start, for development and test only), then from the defaults below. An empty value counts
as not set. Every secret may also be given as `NAME_FILE=path`. `flask config show` prints what is in force, with
secrets masked.

All mistakes are reported at once and stop the start with exit status 78. In staging and production the start also
needs `API_AUTH_TOKENS`, `HOST`, `PORT`, `LOG_LEVEL`, `RATE_LIMIT_PER_MINUTE`, `SECRET_KEY`, `KEY_PEPPER` and
`ENCRYPTION_KEYS`, and refuses weak, short or well-known secrets (`flask config new-key` makes good ones).

Settings marked *reserved* are read and checked but have no effect before the feature they name is there.

The providers and models themselves can stand in a file, see [config-file.md](config-file.md).
"""
EXAMPLE_HEAD: Final = """\
# Generated from `config.py` by `make docs`. Copy it to `.env`, and take the `#` off what you set.
#
# As it stands it sets nothing: development on 127.0.0.1, with secrets made at the first start. Behind each `#` is the
# default. In staging and production API_AUTH_TOKENS, HOST, PORT, LOG_LEVEL, RATE_LIMIT_PER_MINUTE, SECRET_KEY,
# KEY_PEPPER and ENCRYPTION_KEYS must be set (`flask config new-key` makes the secrets). Comments stand on lines of
# their own and values have no quotes, so that `docker run --env-file` and systemd read this file, too.
"""
EXAMPLE_WIDTH: Final = 118
LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")
ERRORS_HEAD: Final = """# Errors

Generated from `services/errors.py` by `make docs`; do not edit.

On `/v1` every error has OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, but for Anthropic's clients,
who get theirs ([messages.md](messages.md)); on `/api/providers` the same with the texts and codes of
[proxy.md](proxy.md); the key management API has problem bodies ([key-management.md](key-management.md)), `/api/v1`
`{"code", "message", "request_id", "details"}`; elsewhere it is `{"detail", "error", "code", "request_id"}`.
Every answer carries `x-request-id`, but for what the server refuses before it is a request: a first line of more than
8,190 bytes (414) or headers beyond its bounds get a page of the server. `retry-after` (seconds) and `x-should-retry`
are set where they help; the official SDKs obey both. An error inside a stream is its last event, and no `data: [DONE]`
follows it.

| error | status | type | code | meaning |
|---|---|---|---|---|
"""


def settings(config: Config) -> dict[str, str]:
    """The settings in force by the names of their variables, secrets masked."""
    found = {}
    for name, field in Config.model_fields.items():
        mark, value = marks(field), getattr(config, name)
        text = (
            ",".join(str(part) for part in value) if isinstance(value, tuple) else "" if value is None else str(value)
        )
        if mark.get("secret"):
            text = ",".join(masked(part) for part in value) if isinstance(value, tuple) else masked(str(value))
        found[mark["env"]] = text
    return found


def shown(config: Config) -> str:
    """The same, one a line, and where the database's address is from."""
    lines = (f"{name}={text}" for name, text in settings(config).items())
    return "\n".join([*lines, f"# database: from {config.database[1]}"])


def write(root: Path, *, check_only: bool) -> list[str]:
    """Write the files below the root folder that differ from the code, or only name them."""
    made = {"docs/configuration.md": configuration(), "docs/errors.md": error_table(), ".env.example": example()}
    stale = []
    for name, content in made.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if not check_only:
                path.write_text(content, encoding="utf-8")
    return stale


def configuration() -> str:
    """docs/configuration.md."""
    return CONFIGURATION_HEAD + "".join(_settings())


def fields() -> list[FieldInfo]:
    """Those of config.py in their order, then those of the classes that it is made of."""
    own = Config.__annotations__
    named = sorted(Config.model_fields.items(), key=lambda entry: entry[0] not in own)
    return [field for _name, field in named]


def _settings() -> Iterator[str]:
    for field in fields():
        mark = marks(field)
        if "group" in mark:
            yield f"\n## {mark['group']}\n\n| variable | default | meaning |\n|---|---|---|\n"
        also = f" Also: {', '.join(f'`{name}`' for name in mark['also'])}." if mark["also"] else ""
        later = f" *Reserved for {mark['later']}.*" if "later" in mark else ""
        yield f"| `{mark['env']}` | {_default(field.default)} | {field.description}{also}{later} |\n"


def example() -> str:
    """`.env.example`."""
    return EXAMPLE_HEAD + "".join(_examples())


def _examples() -> Iterator[str]:
    for field in fields():
        mark = marks(field)
        if "group" in mark:
            yield f"\n# ---- {mark['group']} ----\n"
        said = LINK.sub(r"docs/\1", field.description or "")
        text = textwrap.wrap(said, EXAMPLE_WIDTH - 2, break_long_words=False, break_on_hyphens=False)
        yield "\n" + "".join(f"# {line}\n" for line in text) + f"#{mark['env']}={_plain(field.default)}\n"


def _default(value: Any) -> str:
    return f"`{text}`" if (text := _plain(value)) else ""


def _plain(value: Any) -> str:
    """A default as the environment would have it; empty = there is none."""
    if value in (None, "", ()):
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def error_table() -> str:
    """docs/errors.md."""
    kinds = [kind for _name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]
    rows = []
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.__name__)):
        meaning = (inspect.getdoc(kind) or "").split("\n")[0]
        rows.append(f"| {kind.__name__} | {kind.status} | `{kind.type}` | `{kind.code}` | {meaning} |\n")
    return ERRORS_HEAD + "".join(rows)
