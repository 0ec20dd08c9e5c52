"""Logging: readable in development, one JSON object a line in production, without secrets in either."""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

from gunicorn import glogging

from utils import jsonx

SECRET: Final = re.compile(
    r"(sk-[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}|(Bearer\s+)[^\s\"']{8,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]+", re.ASCII
)
MIN_SECRET: Final = 8  # shorter ones would blot out ordinary words
MASK: Final = "***"


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
        message = self._redactor.clean(record.getMessage())
        trace = self._redactor.clean(self.formatException(record.exc_info)) if record.exc_info else ""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._as_json:
            entry = {"time": moment, "level": record.levelname, "logger": record.name, "message": message}
            return jsonx.dumps(entry | ({"trace": trace} if trace else {})).decode()
        shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
        return f"{moment} {record.levelname:<8} {record.name}: {shown}" + (f"\n{trace}" if trace else "")


def configure(level: str, *, as_json: bool, secrets: tuple[str, ...]) -> None:
    """Send all logs to standard error in this form; may be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(Redactor(secrets), as_json=as_json))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # names each of its own at every start


class GunicornLogger(glogging.Logger):
    """gunicorn's own messages in our form, through the root logger."""

    def setup(self, cfg: object) -> None:
        """See gunicorn.glogging.Logger.setup."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
