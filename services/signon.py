"""Who else may say who people are, wired from the settings: OpenID Connect, a back end, tokens of others."""

from config import Config
from services.addresses import AddressRules
from services.backend import BackEnd
from services.jwks import KeySet
from services.openid import OpenId
from services.openid import Settings as OpenIdSettings
from services.outside import Trust
from services.transport import Transport

KEY_SET_TIMEOUT_S = 3.0  # for the public keys of an outside issuer


def openid(config: Config, rules: AddressRules) -> OpenId | None:
    """Whom people may sign in with in a browser, besides their password here."""
    if not config.oidc_issuer:
        return None
    settings = OpenIdSettings(
        config.oidc_issuer,
        config.oidc_client_id,
        config.oidc_client_secret,
        config.oidc_scopes,
        config.oidc_groups_claim,
        bool(config.oidc_roles),
        config.oidc_ca_file,
    )
    return OpenId(settings, rules)


def back_end(config: Config, transport: Transport) -> BackEnd | None:
    """Who else signs people in."""
    if config.auth_backend == "local":
        return None
    return BackEnd(transport, config.backend_auth_url, config.backend_users_url)


def trust(config: Config, transport: Transport) -> Trust:
    """Whose tokens count besides our own; audience and issuer only where somebody has set them."""
    url, chosen = config.jwt_jwks_url, config.model_fields_set
    return Trust(
        config.shared_secret,
        KeySet(lambda: transport.get(url, timeout_s=KEY_SET_TIMEOUT_S)) if url else None,
        config.jwt_issuer if "jwt_issuer" in chosen else "",
        config.jwt_audience if "jwt_audience" in chosen else "",
        config.outside_issuer,
    )
