"""Whether a provider can be reached, takes its key and answers like an API; and if not, what is wrong.

What was found is a code with values; routes/providerwords.py says it in words.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from models import Deployment, Provider
from services.credentials import SealBroken, Sealer
from services.errors import UpstreamError, UpstreamTimeout
from services.exchange import Patience
from services.providers.base import UpstreamRequest, Wire
from services.providers.kinds import KINDS
from services.providers.openai import error_detail
from services.settlement import clean
from services.tokens import Tokens
from services.transport import Transport
from services.types import Upstream

PATIENCE: Final = Patience(connect_s=5.0, silence_s=10.0, total_s=20.0)
MAX_BYTES: Final = 8 * 1024 * 1024
GOOD: Final = frozenset({"works", "works_empty", "works_unlisted", "reached"})
NAMED: Final = 3  # models
MAX_MESSAGE: Final = 300
BY_STATUS: Final = {401: "key", 402: "account", 403: "key", 404: "path", 405: "path", 429: "busy"}
OK: Final = range(200, 300)
FAILING: Final = 500
# What the transport says, and which finding that is.
TEXTS: Final = (
    (re.compile(r"the host `(?P<host>[^`]*)` is not known"), "dns"),
    (re.compile(r"no connection to `(?P<place>[^`]*)`: (?P<reason>`.*(address|http).*)"), "forbidden"),
    (re.compile(r"no connection to `(?P<place>[^`]*)`: (?P<reason>.*)"), "refused"),
    (re.compile(r"no TLS connection to `(?P<host>[^`]*)`: SSLError"), "no_tls"),
    (re.compile(r"no TLS connection to `(?P<host>[^`]*)`: (?P<reason>.*)"), "tls"),
    (re.compile(r"a redirect \((?P<status>\d+)\)"), "redirect"),
    (re.compile(r"gave no token \((?P<status>\d+)\): (?P<message>.*)"), "token"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    code: str
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether calls can be expected to work."""
        return self.code in GOOD


@dataclass(frozen=True, slots=True)
class Line:
    """A provider as lists show it."""

    id: int
    name: str
    kind: str
    base_url: str
    is_enabled: bool
    models: int
    managed_by: str


class Checks:
    """See the module."""

    def __init__(
        self, engine: Engine, sealer: Sealer, transport: Transport, wires: Mapping[str, Wire], tokens: Tokens
    ) -> None:
        self._engine, self._sealer, self._transport = engine, sealer, transport
        self._wires, self._tokens = wires, tokens

    def providers(self) -> Sequence[Line]:
        """All of them by name, with how many models each serves."""
        counted = select(func.count()).where(Deployment.provider_id == Provider.id).scalar_subquery()
        columns = (Provider.id, Provider.name, Provider.kind, Provider.base_url, Provider.is_enabled, counted)
        with Session(self._engine) as session:
            found = session.execute(select(*columns, Provider.managed_by).order_by(Provider.name)).tuples()
            return [Line(*row) for row in found]

    def look(self, provider_id: int) -> Finding:
        """Ask one provider for its models, now."""
        with Session(self._engine) as session:
            row = session.get(Provider, provider_id)
        wire = self._wires.get(row.kind) if row is not None else None
        if row is None or wire is None:
            return Finding("kind")
        try:
            credential = self._sealer.open(row.credential) if row.credential is not None else ""
        except SealBroken:
            return Finding("sealed")
        ca_file = str(row.settings.get("ca_file") or "")
        if ca_file and not _has_certificates(ca_file):
            return Finding("ca_file", {"path": ca_file})
        upstream = Upstream(row.id, row.name, row.kind, row.base_url, credential, row.settings)
        try:
            return self._ask(wire, upstream)
        except UpstreamError as exc:
            exc.hide(credential)
            return _of_error(exc)

    def _ask(self, wire: Wire, upstream: Upstream) -> Finding:
        credential = self._tokens.credential(wire, upstream)
        try:
            path, headers = wire.model_list({**upstream.settings, "base_url": upstream.base_url}, credential)
            has_list = True
        except UpstreamError:
            path, headers, has_list = "/", {}, False
        request = UpstreamRequest("GET", path, tuple(headers.items()), b"")
        answer = self._transport.open(upstream, request, lambda _opened: None, PATIENCE)
        try:
            body = answer.read(MAX_BYTES)
        finally:
            answer.close()
        if not has_list:
            return Finding("reached")
        if answer.status not in OK:
            return _of_status(answer.status, path, body, upstream, credential)
        names = wire.model_names(body)
        if not KINDS[upstream.kind].lists_models:
            return Finding("works_unlisted")
        return Finding("works", {"count": len(names), "names": _some(names)}) if names else Finding("works_empty")


def _of_status(status: int, path: str, body: bytes, upstream: Upstream, token: str) -> Finding:
    message = clean(str(error_detail(body).get("message") or ""))
    for secret in (upstream.credential, token):
        message = message.replace(secret, "***") if secret else message
    code = BY_STATUS.get(status, "failing" if status >= FAILING else "status")
    return Finding(code, {"status": status, "path": path, "message": message[:MAX_MESSAGE] or "-"})


def _of_error(exc: UpstreamError) -> Finding:
    text = clean(str(exc))
    for pattern, code in TEXTS:
        if (match := pattern.search(text)) is not None:
            return Finding(code, match.groupdict())
    return Finding("silent" if isinstance(exc, UpstreamTimeout) else "no_api", {"problem": text})


def _some(names: list[str]) -> str:
    return clean(", ".join(names[:NAMED])) + (" …" if len(names) > NAMED else "")


def _has_certificates(path: str) -> bool:
    try:
        return b"-----BEGIN " in Path(path).read_bytes()
    except OSError:
        return False
