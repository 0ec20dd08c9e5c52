"""Logging: readable in development, one JSON object a line in production, without secrets in either.

What stands as `name=%s` in a message is a member of the JSON object, too: `request_id`, `user_id`, `status` and others.
The names come from our code, never from what is logged.
"""

import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from gunicorn import glogging

from utils import jsonx

SECRET: Final = re.compile(
    r"(sk-[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}|(Bearer\s+)[^\s\"']{8,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]+", re.ASCII
)
MIN_SECRET: Final = 8  # shorter ones would blot out ordinary words
MASK: Final = "***"
ACCESS: Final = "tollhouse.access"  # the logger of answered requests
CONVERSION: Final = re.compile(r"(?:(\w+)=)?%(?:(\()|[-#0 +]*\d*(?:\.\d+)?([a-zA-Z%]))", re.ASCII)
QUERY: Final = re.compile(r"\?[^\s'\"]+")
EXACT: Final = 2**53  # whole numbers above are not read alike everywhere
OFF: Final = logging.CRITICAL + 1


class Redactor:
    """Blots out known secrets, and what looks like one."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = sorted((secret for secret in secrets if len(secret) >= MIN_SECRET), key=len, reverse=True)

    def clean(self, text: str) -> str:
        """The text without secrets, on one line, without control characters."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return SECRET.sub(lambda match: (match[1] or match[2] or "") + MASK, text)


class _Formatter(logging.Formatter):
    """Both forms; a line break in a message cannot forge a second entry."""

    def __init__(self, redactor: Redactor, *, as_json: bool) -> None:
        super().__init__()
        self._redactor, self._as_json = redactor, as_json

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter.format."""
        is_ours = record.name == ACCESS  # nothing in it comes from outside, and it is written for every request
        clean = str if is_ours else self._redactor.clean
        message = clean(record.getMessage())
        trace = self._redactor.clean(self.formatException(record.exc_info)) if record.exc_info else ""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._as_json:
            entry = {"time": moment, "level": record.levelname, "logger": record.name, "message": _encodable(message)}
            entry |= {name: value for name, value in self._members(record, clean).items() if name not in entry}
            return jsonx.dumps(entry | ({"trace": _encodable(trace)} if trace else {})).decode()
        shown = f"{moment} {record.levelname:<8} {record.name}: {_printable(message)}"
        return "\n    ".join([shown, *map(_printable, trace.splitlines())])  # no line of a trace begins like an entry

    def _members(self, record: logging.LogRecord, clean: Callable[[str], str]) -> dict[str, Any]:
        """What the message names; numbers stay numbers."""
        names = _names(record.msg) if isinstance(record.msg, str) else ()
        if not isinstance(record.args, tuple) or len(names) != len(record.args):
            return {}
        return {name: _plain(value, clean) for name, value in zip(names, record.args, strict=True) if name}


def _plain(value: object, clean: Callable[[str], str]) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < EXACT else str(value)
    return _encodable(clean(str(value)))


@lru_cache(maxsize=1024)
def _names(template: str) -> tuple[str, ...]:
    """The name before each conversion of a message, empty where there is none."""
    found = [match for match in CONVERSION.finditer(template) if match[3] != "%"]
    return () if any(match[2] for match in found) else tuple(match[1] or "" for match in found)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _encodable(text: str) -> str:
    """The text without the halves of characters, which no JSON may have."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def configure(level: str, *, as_json: bool, secrets: tuple[str, ...], with_access: bool = True) -> None:
    """Send all logs to standard error in this form; may be called again. `with_access`: answered requests, too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(Redactor(secrets), as_json=as_json))
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line of ours says them
    logging._srcfile = None  # noqa: SLF001 - nor the place it was written at; the way that the library documents
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger(ACCESS).setLevel(logging.NOTSET if with_access else OFF)
    logging.getLogger("werkzeug").addFilter(_is_no_request)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # names each of its own at every start


def _is_no_request(record: logging.LogRecord) -> bool:
    """Whether a line of the development server is no request: those it writes with their query, and we write them."""
    return '"%s" %s %s' not in str(record.msg)


def _without_query(record: logging.LogRecord) -> bool:
    """Leave out what stands behind a `?`: a request that failed is written with its whole address, or as it came."""
    if record.levelno >= logging.WARNING:
        record.msg, record.args = QUERY.sub("?…", record.getMessage()), ()
    return True


class GunicornLogger(glogging.Logger):
    """gunicorn's own messages in our form, through the root logger."""

    def setup(self, cfg: object) -> None:
        """See gunicorn.glogging.Logger.setup."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
            logger.addFilter(_without_query)
