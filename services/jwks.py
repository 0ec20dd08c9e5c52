"""The public keys of an outside issuer: read from its document, kept for an hour, read again for a key nobody knows.

Whoever sends tokens can name any key, so the document is never read more than once a minute for that. While the issuer
is away the keys stay good, for a day. A key is for one algorithm, the one of its kind, whatever a token says.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from services.errors import UpstreamError
from utils import clock, jsonx

log = logging.getLogger(__name__)

LIFE_S: Final = 3600.0
STALE_S: Final = 86_400.0  # how long keys are believed while nobody says otherwise
AGAIN_S: Final = 60.0  # for a key that the document did not have
FAILED_AGAIN_S: Final = 5.0  # after a document that could not be had
MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
MAX_NAME: Final = 255  # characters of a `kid`
MIN_RSA_BITS: Final = 2048
PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518, 6.2.2, 6.3.2 and 6.4.1
ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256"}  # by `kty`
READERS: Final[Mapping[str, Callable[[dict[str, Any]], Any]]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
}

Keys = Mapping[tuple[str, str], Any]  # by algorithm and `kid`, empty where a key has none


class KeySet:
    """The keys of one issuer, as this worker last read them. `read` gives the document's bytes."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._keys: Keys = {}
        self._read_s, self._next_s = -math.inf, -math.inf  # read last; not to be read again before
        self._reading = threading.Lock()

    def find(self, algorithm: str, name: str | None) -> Any | None:
        """The key of that name for that algorithm; without a name the only one there is for it. None: there is none."""
        now_s = clock.monotonic_s()
        if now_s - self._read_s > LIFE_S:
            self._refresh()
        found = _pick(self._keys, algorithm, name)
        if found is None:
            self._refresh()
            found = _pick(self._keys, algorithm, name)
        return found if clock.monotonic_s() - self._read_s <= STALE_S else None

    def _refresh(self) -> None:
        """Read the document, unless that was done a moment ago; whoever has keys does not wait for who is reading."""
        if clock.monotonic_s() < self._next_s or not self._reading.acquire(blocking=not self._keys):
            return
        try:
            if clock.monotonic_s() >= self._next_s:  # else somebody did while we waited
                again_s = self._load()
                self._next_s = clock.monotonic_s() + again_s
        finally:
            self._reading.release()

    def _load(self) -> float:
        """Read the document; returns after how many seconds it may be read again."""
        try:
            self._keys = usable(self._read())
        except (UpstreamError, ValueError) as exc:
            log.warning("the keys of the outside issuer were not read: %s", exc)
            return FAILED_AGAIN_S
        self._read_s = clock.monotonic_s()
        return AGAIN_S


def usable(document: bytes) -> Keys:
    """The keys of a document that may be used to check signatures; others in it are left out, with a line in the log.

    Raises:
        ValueError: it is no key set, or too large.
    """
    if len(document) > MAX_BYTES:
        raise ValueError(f"the document has more than {MAX_BYTES} bytes")
    try:
        parsed = jsonx.loads(document)
    except jsonx.BadJson as exc:
        raise ValueError("the document is no JSON") from exc
    rows = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(rows, list) or len(rows) > MAX_KEYS:
        raise ValueError(f"the document is no key set of at most {MAX_KEYS} keys")
    found: dict[tuple[str, str], Any] = {}
    for place, row in enumerate(rows):
        try:
            algorithm, name, key = _key(row)
        except (ValueError, TypeError, KeyError, OverflowError, jwt.PyJWTError) as exc:
            log.info("key %s of the outside issuer is left out: %s", place, exc)
            continue
        found.setdefault((algorithm, name), key)
    return found


def _key(row: Any) -> tuple[str, str, Any]:
    """Algorithm, name and key of one entry.

    Raises:
        ValueError: it cannot or must not check signatures.
    """
    if not isinstance(row, dict) or row.get("kty") not in ALGORITHMS:
        raise ValueError("not of the kinds RSA and EC")
    if PRIVATE & row.keys():
        log.error("the outside issuer publishes a private key; it is not trusted any more")
        raise ValueError("a private key")
    algorithm, name = ALGORITHMS[row["kty"]], row.get("kid", "")
    if row.get("use", "sig") != "sig" or row.get("alg", algorithm) != algorithm:
        raise ValueError(f"not for signatures by {algorithm}")
    operations = row.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("not for checking signatures")
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise ValueError("its `kid` is no text of at most 255 characters")
    key = READERS[row["kty"]](row)
    if algorithm == "RS256" and key.key_size < MIN_RSA_BITS:
        raise ValueError(f"shorter than {MIN_RSA_BITS} bits")
    if algorithm == "ES256" and key.curve.name != "secp256r1":
        raise ValueError("not on the curve P-256")
    return algorithm, name, key


def _pick(keys: Keys, algorithm: str, name: str | None) -> Any | None:
    if name is not None:
        return keys.get((algorithm, name))
    fitting = [key for (known, _name), key in keys.items() if known == algorithm]
    return fitting[0] if len(fitting) == 1 else None
