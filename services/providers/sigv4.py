"""AWS's signature version 4, made by botocore.

botocore is loaded with the first call that needs it: it takes 20 MB and most of a second. Of the library only the
signature is used: requests are sent by services/transport.py, to the same host and path that are signed here.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
PORTS: Final = {"http": 80, "https": 443}


class Keys(NamedTuple):
    """What AWS calls credentials, with the names that botocore expects."""

    access_key: str
    secret_key: str
    token: str | None = None


Headers = tuple[tuple[str, str], ...]


def host_of(base_url: str) -> str:
    """The Host header for a base URL: the port only where it is not the scheme's own."""
    url = urlsplit(base_url)
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    return host if url.port in (None, PORTS.get(url.scheme)) else f"{host}:{url.port}"


def signature(  # noqa: PLR0913 - the parts of a request
    keys: Keys, service: str, region: str, *, base_url: str, path: str, headers: Headers, body: bytes, at_ms: int
) -> Headers:
    """The headers that sign a POST of these headers and this body; AWS takes them for five minutes.

    `path` is what follows the base URL, percent-encoded as it will be sent.
    """
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - see the module docstring
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - loaded with the first call that is signed

    request: Any = AWSRequest("POST", base_url.rstrip("/") + path, dict(headers), body)
    request.context["timestamp"] = datetime.fromtimestamp(at_ms // 1000, UTC).strftime(TIME_FORMAT)
    added = {"x-amz-date": request.context["timestamp"]} | ({"x-amz-security-token": keys.token} if keys.token else {})
    request.headers["host"] = host_of(base_url)
    for name, value in added.items():
        request.headers[name] = value
    auth: Any = SigV4Auth(keys, service, region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    signed = auth.signed_headers(auth.headers_to_sign(request))
    credential = f"Credential={auth.scope(request)}, SignedHeaders={signed}"
    return (*added.items(), ("authorization", f"{ALGORITHM} {credential}, Signature={auth.signature(text, request)}"))
