"""Files of pages: small on the way, and kept by browsers for as long as they stay the same.

Only files go out compressed, never pages: a page carries a CSRF token and may repeat what its address says, and the
length of a compressed answer tells whoever can cause both how far a guess of the token was right (BREACH). Files are
the same for everybody and hold no secret. Nothing here runs for calls of `/v1`.
"""

import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, current_app, request, url_for
from werkzeug.security import safe_join

FILES: Final = {  # endpoints of files, and where theirs are
    "static": lambda: Path(current_app.static_folder or ""),
    "bootstrap.static": lambda: Path(current_app.blueprints["bootstrap"].static_folder or ""),
}
TEXTS: Final = frozenset({"text/css", "text/javascript", "application/javascript", "image/svg+xml"})
LEAST: Final = 1024  # bytes; smaller files fit one packet as they are
MOST: Final = 4 * 2**20  # bytes of compressed files that a worker keeps
FOREVER: Final = "public, max-age=31536000, immutable"

_packed: dict[tuple[str, str], bytes] = {}  # by path and ETag


def register(app: Flask, *more: str) -> None:
    """Serve the files of these endpoints like this; `more`: further endpoints, whose addresses have no fingerprint."""
    for endpoint in (*FILES, *more):
        app.view_functions[endpoint] = _served(app.view_functions[endpoint], has_fingerprint=endpoint in FILES)


def address(endpoint: str, name: str) -> str:
    """The address of a file; it changes with the file, so that browsers may keep it."""
    return url_for(endpoint, filename=name, v=_fingerprint(FILES[endpoint]() / name))


def _served(view: Callable[..., Any], *, has_fingerprint: bool) -> Callable[..., Response]:
    def serve(**values: Any) -> Response:
        response: Response = current_app.make_response(view(**values))
        if has_fingerprint and _is_current(values["filename"]):
            response.headers["cache-control"] = FOREVER
        return _compressed(response) if response.mimetype in TEXTS else response

    return serve


def _is_current(name: str) -> bool:
    """Whether the address has the fingerprint of the file as it is; another worker's may be older or newer."""
    given = request.args.get("v")
    path = safe_join(str(FILES[request.endpoint or ""]()), name) if given else None
    return path is not None and Path(path).is_file() and given == _fingerprint(Path(path))


def _compressed(response: Response) -> Response:
    """The same answer with gzip, if the client takes it."""
    response.vary.add("accept-encoding")
    is_wanted = request.accept_encodings["gzip"] > 0 and "range" not in request.headers
    if not is_wanted or response.status_code != 200 or (response.content_length or 0) < LEAST:  # noqa: PLR2004 - OK
        return response
    tag, _is_weak = response.get_etag()
    key = (request.path, tag or "")
    body = _packed.get(key)
    if body is None:
        response.direct_passthrough = False
        body = gzip.compress(response.get_data(), mtime=0)
        if tag and sum(map(len, _packed.values())) + len(body) <= MOST:
            _packed[key] = body
    response.close()
    response.direct_passthrough = False
    response.set_data(body)
    response.headers["content-encoding"] = "gzip"
    response.headers.pop("accept-ranges", None)
    if tag:
        response.set_etag(tag, weak=True)  # the same file, other bytes
    return response


@cache
def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
