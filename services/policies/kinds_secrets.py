"""What opens something: passwords, API keys of well-known vendors, tokens, private keys."""

import base64
import binascii
import json
import math
import re
import zlib
from collections import Counter
from typing import Final

from services.policies.kind import FREE, WORD, Kind, after
from utils import ids

GROUP: Final = "secrets"
OURS: Final = "sk-th-"
CHECK_CHARS: Final = 6  # of a key of ours: CRC-32 of the rest, see the page about keys
LEAST_BITS: Final = 3.0  # of entropy a character that a secret without a known form has
WORDS: Final = re.compile(  # what stands where a password would, and is none
    r"(?i)string|str|object|bool|bytes|any|\w*password\w*|null|none|nil|true|false|required|optional|undefined|senha|secret|text|varchar.*|hidden"
    r"|changed?|reset|forgot(?:ten)?|incorrect|invalid|wrong|expired|not|too|must|should|cannot|obrigat\w+|incorreta|inválida|your\w*"
    r"|getpass.*|input|redacted|\*+|x+|\.+|example|field|protected|encrypted|needed|correct|weak|strong|the|set|empty|here|missing"
)
REFERENCE: Final = re.compile(
    r"[$<{%\[]|os\.|process\.|env[.\[(]|config[.\[(]|self\.|settings\.|getenv|.*[(]|\w+\.\w+[.(\[]|&"
)


def is_ours(value: str) -> bool:
    """Whether the checksum of a key of this gateway is right."""
    random = value.removeprefix(OURS)
    return random[-CHECK_CHARS:] == ids.base62(zlib.crc32(random[:-CHECK_CHARS].encode()), CHECK_CHARS)


def is_jwt(value: str) -> bool:
    """Whether its first part is the header of a token."""
    first = value.split(".", maxsplit=1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, binascii.Error):
        return False
    return isinstance(header, dict) and "alg" in header


def is_password(value: str) -> bool:
    """Whether it is no word about passwords and no reference to where one is kept."""
    value = value.rstrip(".,;:!?)")
    return len(value) >= 4 and WORDS.fullmatch(value) is None and REFERENCE.match(value) is None  # noqa: PLR2004 - a shorter one is no password


def is_strange(value: str) -> bool:
    """Whether it has letters and digits and looks drawn by lot: three bits of entropy a character or more."""
    if not (any(map(str.isdecimal, value)) and any(map(str.isalpha, value))) or REFERENCE.match(value) is not None:
        return False
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts) >= LEAST_BITS


def _key(name: str, title: str, pattern: str, how: str = "its form") -> Kind:
    return Kind(name, title, GROUP, rf"\b(?:{pattern})", how, edge=WORD, most_chars=400)


SECRETS: Final = (
    Kind("tollhouse_key", "Key of this gateway", GROUP, r"\bsk-th-[0-9A-Za-z]{49}", "its checksum", check=is_ours),
    _key("anthropic_key", "API key of Anthropic", r"sk-ant-[a-z0-9]{2,12}-[\w-]{24,}"),
    _key("openrouter_key", "API key of OpenRouter", r"sk-or-v1-[0-9a-f]{64}"),
    _key(
        "openai_key",
        "API key of OpenAI",
        r"sk-(?:proj|svcacct|admin|None)-[\w-]{20,}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|sk-[A-Za-z0-9]{32,64}",
    ),
    _key("aws_access_key", "Access key of AWS", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    Kind(
        "aws_secret_key",
        "Secret key of AWS",
        GROUP,
        after(
            r"aws_?secret_?(?:access_?)?key|secret[_ ]?access[_ ]?key|aws secret|secretaccesskey", r"[A-Za-z0-9/+]{40}"
        ),
        "40 characters of base64 after AWS secret, secret access key",
        check=is_strange,
    ),
    _key("github_token", "Token of GitHub", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _key("gitlab_token", "Token of GitLab", r"gl(?:pat|dt|rt|cbt|ptt|soat|agent)-[\w-]{20,}"),
    _key("slack_token", "Token of Slack", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{20,}"),
    _key("stripe_key", "Key of Stripe", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,}"),
    _key("google_key", "API key of Google", r"AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,}"),
    _key("hugging_face_token", "Token of Hugging Face", r"hf_[A-Za-z]{34}"),
    _key("groq_key", "API key of Groq", r"gsk_[A-Za-z0-9]{52}"),
    _key("xai_key", "API key of xAI", r"xai-[A-Za-z0-9]{60,}"),
    _key("replicate_token", "Token of Replicate", r"r8_[A-Za-z0-9]{37}"),
    _key("sendgrid_key", "API key of SendGrid", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _key("npm_token", "Token of npm", r"npm_[A-Za-z0-9]{36}"),
    _key("pypi_token", "Token of PyPI", r"pypi-AgE[\w-]{50,}"),
    _key("digitalocean_token", "Token of DigitalOcean", r"do[opr]_v1_[0-9a-f]{64}"),
    _key("telegram_token", "Token of a Telegram bot", r"\d{8,10}:AA[\w-]{33}"),
    Kind(
        "jwt",
        "JSON Web Token",
        GROUP,
        r"\beyJ[\w-]{8,}\.[\w-]{2,}\.[\w-]*",
        "a header of JSON that names its algorithm",
        check=is_jwt,
        most_chars=4096,
    ),
    Kind(
        "private_key",
        "Private key",
        GROUP,
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
        "a block of PEM or OpenPGP, from BEGIN to END or as far as it goes",
        edge=FREE,
        most_chars=8192,
    ),
    Kind(
        "url_credentials",
        "Address with a password",
        GROUP,
        r"\b[a-z][a-z0-9+]{1,20}://[^\s/:@\"'<>]*:([^\s/@\"'<>{}$]+)@",
        "the password between a user name and the host of an address",
        check=is_password,
        edge=FREE,
        most_chars=300,
    ),
    Kind(
        "bearer_token",
        "Token of an Authorization header",
        GROUP,
        r"(?i:\bauthorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:bearer|basic|token)\s{1,2}|\bbearer )([A-Za-z0-9._~+/=-]{16,})",
        "after Authorization: Bearer, Basic or Token; letters and digits that look drawn by lot",
        check=is_strange,
        most_chars=1024,
    ),
    Kind(
        "api_key",
        "Other secret that is assigned",
        GROUP,
        r"(?i:\b(?:[a-z0-9]{1,20}[_-]){0,3}(?:api[_ -]?key|apikey|secret[_ -]?key|client[_ -]?secret|access[_ -]?token"
        r"|auth[_ -]?token|refresh[_ -]?token|private[_ -]?token|chave de api|chave da api|api secret|secret|token))"
        r"(?i: is| é|[\"']?\s{0,2}[:=]{1,2}>?)\s{0,2}[\"'`]{0,1}([A-Za-z0-9_.~+/=-]{16,})",
        "16 characters and more after API key, secret, access token … that look drawn by lot",
        check=is_strange,
        most_chars=400,
    ),
    Kind(
        "password",
        "Password",
        GROUP,
        r"(?i:\b(?:[a-z0-9]{1,20}_){0,2}(?:password|passwd|pwd|passphrase|passcode|senha|contraseña|passwort|mot de passe|pass))"
        r"(?i:[\"']?\s{0,2}[:=]\s{0,2}|(?: do \p{L}{1,12})? (?:is|é|es|ist|will be|was):? )"
        r"(?:[\"'`]([^\s\"'`]{4,64})[\"'`]|([^\s\"'`,;]{4,64}))",
        "after password, pwd, senha … with a colon, an equals sign or is; no word about passwords, no reference to one",
        check=is_password,
        edge=FREE,
        most_chars=140,
    ),
)
