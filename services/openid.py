"""Signing in with an OpenID provider: the authorization code flow with PKCE, and what its ID token must prove.

The conversation only; who somebody is here, services/identities.py decides. Authlib and what it brings are loaded at
the first sign-in: most workers never need them. No code, token or claim is logged.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from services.addresses import AddressRules
from services.errors import AuthenticationFailed, UpstreamError
from services.transport import PORTS, origin_of
from utils import clock, ids

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session

    from services.fetch import Fetcher

log = logging.getLogger(__name__)

WELL_KNOWN: Final = "/.well-known/openid-configuration"
ALGORITHMS: Final = ("RS256", "ES256")  # never `none`, and never one whose key the provider publishes as a secret
KEY_TYPES: Final = ("RSA", "EC")
NEEDED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
OPTIONAL: Final = ("userinfo_endpoint", "end_session_endpoint")
NAMES: Final = ("preferred_username", "email")  # the first one that somebody has becomes the user name
CACHE_S: Final = 3600.0
AGAIN_S: Final = 30.0  # tokens with made-up key ids must not keep the provider busy
TIMEOUT_S: Final = 10.0
LEEWAY_S: Final = 60  # between its clock and ours
RANDOM_CHARS: Final = 43  # 256 bits, and the least that RFC 7636 takes
MAX_SUBJECT: Final = 255
ACCESS_DENIED: Final = "access_denied"
UNREACHABLE: Final = "The sign-in service cannot be reached at the moment. Please try again in a while."
REFUSED: Final = "The sign-in service did not let you in."
UNTRUSTED: Final = "The answer of the sign-in service cannot be trusted; the log says why. Please begin again."


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator said of the provider. `needs_groups`: whether groups decide about anything."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    groups_claim: str
    needs_groups: bool
    ca_file: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in under way: where the browser goes, and what it must bring back or never shows."""

    url: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Known:
    """Whom the provider vouches for. `name` is what it calls the person, for people to read and never to tell who."""

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]


class OpenId:
    """One provider. What it publishes is kept for an hour; nothing is asked before somebody signs in."""

    def __init__(self, settings: Settings, rules: AddressRules) -> None:
        self._settings, self._rules = settings, rules
        self._fetcher: Fetcher | None = None
        self._metadata: tuple[float, dict[str, str]] | None = None
        self._keys: tuple[float, Any] | None = None

    @property
    def issuer(self) -> str:
        """Whose identities these are."""
        return self._settings.issuer

    def begin(self, redirect_uri: str) -> Begun:
        """A new sign-in, which ends at that address of ours.

        Raises:
            UpstreamError: the provider cannot be asked where people sign in.
        """
        metadata = self._published()
        state, nonce, verifier = (ids.random_base62(RANDOM_CHARS) for _ in range(3))
        with self._session(metadata, redirect_uri) as client:
            url, _state = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return Begun(url, state, nonce, verifier)

    def finish(self, answer: Mapping[str, str], nonce: str, verifier: str, redirect_uri: str) -> Known:
        """Who came back, after a sign-in whose `state` the caller has checked. `answer`: the query of the way back.

        Raises:
            AuthenticationFailed: the provider refused (code as it said), or what it says proves nothing.
            UpstreamError: it cannot be reached.
        """
        metadata = self._published()
        self._check_sender(answer, metadata)
        if "error" in answer or not answer.get("code"):
            raise _refused(answer.get("error", "no code"))
        token = self._redeem(metadata, answer["code"], verifier, redirect_uri)
        claims = self._verified(token, nonce)
        return self._known(self._completed(claims, metadata, str(token.get("access_token", ""))))

    def leave(self, back: str) -> str | None:
        """Where a browser ends its session with the provider and is sent back; None = there is no such place."""
        try:
            place = self._published().get("end_session_endpoint")
        except UpstreamError:
            return None
        query = urlencode({"client_id": self._settings.client_id, "post_logout_redirect_uri": back})
        return f"{place}{'&' if '?' in place else '?'}{query}" if place else None

    def _check_sender(self, answer: Mapping[str, str], metadata: Mapping[str, str]) -> None:
        """RFC 9207: an answer of another provider must not be taken for one of ours."""
        sender = answer.get("iss")
        if sender is None and not metadata.get("authorization_response_iss_parameter_supported"):
            return
        if sender != self.issuer:
            raise _untrusted("another issuer answered")

    def _published(self) -> dict[str, str]:
        """What the provider says of itself.

        Raises:
            UpstreamError: it cannot be asked, or says what cannot be.
        """
        if self._metadata is not None and clock.monotonic_s() - self._metadata[0] < CACHE_S:
            return self._metadata[1]
        found = self._read(self.issuer.rstrip("/") + WELL_KNOWN)
        if found.get("issuer") != self.issuer:
            log.warning("OIDC_ISSUER is %s, but the provider calls itself %s", self.issuer, found.get("issuer"))
            raise UpstreamError(UNREACHABLE)
        for name in (*NEEDED, *OPTIONAL):
            if (name in NEEDED or name in found) and not self._is_place(found.get(name)):
                log.warning("the OpenID provider publishes no usable %s", name)
                raise UpstreamError(UNREACHABLE)
        self._metadata = clock.monotonic_s(), found
        return found

    def _is_place(self, url: object) -> bool:
        """Whether it is an address that a browser may be sent to; one with TLS never leads out of it."""
        scheme = urlsplit(url).scheme if isinstance(url, str) and url.isascii() and url.isprintable() else ""
        return scheme in PORTS and (scheme == "https" or self.issuer.startswith("http:"))

    def _session(self, metadata: Mapping[str, Any], redirect_uri: str) -> "OAuth2Session":
        from authlib.integrations.requests_client import OAuth2Session  # noqa: PLC0415 - see the module

        from services.fetch import bounded, guarded  # noqa: PLC0415 - loaded only where it is set up

        known = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        by_secret = "client_secret_basic" if "client_secret_basic" in known else "client_secret_post"
        client = OAuth2Session(
            self._settings.client_id,
            self._settings.client_secret or None,
            token_endpoint_auth_method=by_secret if self._settings.client_secret else "none",
            scope=self._settings.scopes,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
        )
        client.verify = self._settings.ca_file or True
        client.hooks["response"].append(bounded(TIMEOUT_S))
        return guarded(client, self._rules)

    def _redeem(self, metadata: Mapping[str, str], code: str, verifier: str, redirect_uri: str) -> Mapping[str, Any]:
        """The tokens for a code.

        Raises:
            AuthenticationFailed, UpstreamError: see `finish`.
        """
        from authlib.integrations.base_client import OAuthError  # noqa: PLC0415 - loaded only where it is set up

        try:
            with self._session(metadata, redirect_uri) as client:
                found: Mapping[str, Any] = client.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    redirect_uri=redirect_uri,
                    timeout=TIMEOUT_S,
                    allow_redirects=False,
                    stream=True,
                )
        except OAuthError as exc:
            raise _refused(str(exc.error)) from exc
        except (OSError, UpstreamError, ValueError) as exc:
            log.warning("the OpenID provider's token endpoint failed: %s", type(exc).__name__)
            raise UpstreamError(UNREACHABLE) from exc
        return found

    def _verified(self, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of the ID token.

        Raises:
            AuthenticationFailed: it is not from this provider, for us, for this sign-in, or of now.
        """
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415 - loaded only where it is set up
        from joserfc.errors import JoseError  # noqa: PLC0415 - loaded only where it is set up

        try:
            found = self._decoded(str(token.get("id_token", "")))
            options = {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self._settings.client_id},
            }
            params = {name: token.get(name) for name in ("access_token",)} | {"nonce": nonce}
            claims = CodeIDToken(found.claims, found.header, options, params | {"client_id": self._settings.client_id})
            claims.validate(int(clock.now_s()), LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError) as exc:
            reason = str(exc) if isinstance(exc, JoseError) else type(exc).__name__
            raise _untrusted(f"id_token: {reason}") from exc
        return dict(claims)

    def _decoded(self, id_token: str) -> Any:
        from joserfc import jwt  # noqa: PLC0415 - loaded only where it is set up
        from joserfc.errors import InvalidKeyIdError  # noqa: PLC0415 - loaded only where it is set up

        try:
            return jwt.decode(id_token, self._key_set(CACHE_S), algorithms=ALGORITHMS)
        except InvalidKeyIdError:  # it may have a new key since
            return jwt.decode(id_token, self._key_set(AGAIN_S), algorithms=ALGORITHMS)

    def _key_set(self, no_older_than_s: float) -> Any:
        """The keys that the provider signs with; whatever else it publishes is left out."""
        from joserfc.jwk import KeySet  # noqa: PLC0415 - loaded only where it is set up

        if self._keys is None or clock.monotonic_s() - self._keys[0] >= no_older_than_s:
            given = self._read(self._published()["jwks_uri"]).get("keys")
            keys = [key for key in given if _signs(key)] if isinstance(given, list) else []
            self._keys = clock.monotonic_s(), KeySet.import_key_set({"keys": keys})
        return self._keys[1]

    def _completed(self, claims: dict[str, Any], metadata: Mapping[str, str], access_token: str) -> dict[str, Any]:
        """The claims, with those of the userinfo endpoint where the ID token has no name or no groups."""
        has_name = any(claims.get(name) for name in NAMES)
        has_groups = not self._settings.needs_groups or _at(claims, self._settings.groups_claim) is not None
        place = metadata.get("userinfo_endpoint")
        if (has_name and has_groups) or not place or not access_token:
            return claims
        more = self._read(place, {"authorization": f"Bearer {access_token}"})
        if more.get("sub") != claims.get("sub"):
            raise _untrusted("userinfo is about somebody else")
        return more | claims

    def _known(self, claims: Mapping[str, Any]) -> Known:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
            raise _untrusted("id_token: no usable sub")
        names = [claims[name] for name in NAMES if isinstance(claims.get(name), str) and claims[name].strip()]
        given = _at(claims, self._settings.groups_claim)
        groups = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        texts = tuple(group for group in groups if isinstance(group, str))
        return Known(self.issuer, subject, _visible((names or [subject])[0]), texts)

    def _read(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A JSON object.

        Raises:
            UpstreamError: there is none, with a text for people; the log has the reason.
        """
        if self._fetcher is None:
            from services.fetch import Fetcher  # noqa: PLC0415 - loaded only where it is set up

            self._fetcher = Fetcher(self._rules)
        parts = urlsplit(url)
        try:
            origin = origin_of(f"{parts.scheme}://{parts.netloc}", self._settings.ca_file)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            found = json.loads(self._fetcher.get(origin, path, headers or {}, TIMEOUT_S))
            if isinstance(found, dict):
                return found
            reason = f"`{url}` answered no JSON object"
        except UpstreamError as exc:
            reason = str(exc)
        except ValueError:
            reason = f"`{url}` answered no JSON"
        log.warning("the OpenID provider failed: %s", reason)
        raise UpstreamError(UNREACHABLE)


def _visible(name: str) -> str:
    """The name, with a dash for each character that nobody sees or that cannot be written."""
    return "".join(char if char.isprintable() else "-" for char in name.strip())


def _signs(key: object) -> bool:
    return isinstance(key, dict) and key.get("kty") in KEY_TYPES and key.get("use", "sig") == "sig"


def _at(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name, which may have dots in it, or else what they lead to."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _refused(reason: str) -> AuthenticationFailed:
    said = reason if reason.isascii() and reason.replace("_", "").replace(" ", "").isalpha() else "an unknown error"
    if said != ACCESS_DENIED:
        log.warning("the OpenID provider refused a sign-in: %s", said[:60])
    return AuthenticationFailed(REFUSED, code=said[:60])


def _untrusted(reason: str) -> AuthenticationFailed:
    log.warning("an OpenID sign-in was refused: %s", reason)
    return AuthenticationFailed(UNTRUSTED, code="untrusted")
