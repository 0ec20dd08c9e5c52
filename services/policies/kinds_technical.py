"""What names a machine, a vehicle or an account with a system."""

import ipaddress
import re
from typing import Final

from stdnum import luhn

from services.policies.kind import GAP, NUMBER, WORD, Kind, after

GROUP: Final = "technical"
VIN_VALUES: Final = dict(
    zip(
        "ABCDEFGHJKLMNPRSTUVWXYZ0123456789",
        (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9, *range(10)),
        strict=True,
    )
)
VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
VIN_CHECK, VIN_MODULUS = 8, 11  # where the check digit is, and what it is taken by
LEAST_GROUPS: Final = 2
NO_USERS: Final = re.compile(
    r"(?i)string|object|bool|int|bytes|any|user\w*|my_user|nickname|login|handle|value|null|none|true|false|required|optional|invalid|not|and|or|must|cannot|can|is|the|a|an|here|name|field|input"
    r"|already|taken|missing|unique|admin|root|password|email|varchar|text|str|self|request|form|label|obrigat\w+|inválid\w+|deve|não|já"
)
PLATE: Final = (
    r"[A-Z]{3}[ -]?\d[A-Z]\d{2}|[A-Z]{3}[ -]?\d{4}|[A-Z]{2}\d{2} ?[A-Z]{3}|\d[A-Z]{3}\d{3}|[A-Z]{2} ?\d{2} ?[A-Z]{1,2} ?\d{4}"
    r"|[A-Z]{1,3}-[A-Z]{1,2} ?\d{1,4}|[A-Z]{2}-\d{3}-[A-Z]{2}|\d{4} ?[BCDFGHJ-NPR-TV-Z]{3}"
)


def is_ip(value: str) -> bool:
    """Whether it is an address of IPv4 or IPv6, and no path of a programming language such as `ab::cd`."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    if address.version == LEAST_GROUPS * 2:
        return True
    return any(map(str.isdecimal, value)) and (value.count(":") > LEAST_GROUPS or value.startswith("::"))


def is_vin(value: str) -> bool:
    """Whether the check digit of North America is right."""
    if value.isdecimal() or len(set(value)) == 1:
        return False
    total = sum(VIN_VALUES[sign] * weight for sign, weight in zip(value, VIN_WEIGHTS, strict=True))
    return value[VIN_CHECK] == "0123456789X"[total % VIN_MODULUS]


def is_mac(value: str) -> bool:
    """Whether one mark separates its pairs, and it is not all zeros or ones."""
    marks = {mark for mark in value if mark in ":-."}
    return len(marks) == 1 and len(set(value.lower()) - marks) > 1


def is_imei(value: str) -> bool:
    """Whether Luhn's check digit is right."""
    return bool(luhn.is_valid("".join(filter(str.isdecimal, value))))


def is_user(value: str) -> bool:
    """Whether it is more than a word of the sentence."""
    return NO_USERS.fullmatch(value) is None


TECHNICAL: Final = (
    Kind(
        "ip_address",
        "IP address",
        GROUP,
        r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b|(?:\b[0-9A-Fa-f]{1,4}|:):[0-9A-Fa-f:.]*(?:[0-9A-Fa-f]|::)",
        "an address that exists; not after version, release or v",
        check=is_ip,
        edge=NUMBER,
        unless_after=(
            "version",
            "versão",
            "release",
            "v",
            "ver",
            "ver.",
            "build",
            "firmware",
            "section",
            "seção",
            "oid",
        ),
        most_chars=50,
    ),
    Kind(
        "mac_address",
        "MAC address",
        GROUP,
        r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b|\b[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\b",
        "six pairs of hexadecimal digits with one mark between them, or three groups of four with points",
        check=is_mac,
        edge=NUMBER,
    ),
    Kind(
        "imei",
        "IMEI of a telephone",
        GROUP,
        after(r"imei", r"\d{2}[ -]?\d{6}[ -]?\d{6}[ -]?\d", GAP) + r"\b",
        "Luhn's check digit, after IMEI",
        check=is_imei,
        edge=NUMBER,
    ),
    Kind(
        "vehicle_identification_number",
        "Vehicle identification number",
        GROUP,
        r"\b[A-HJ-NPR-Z0-9]{17}\b",
        "17 characters with the check digit of North America",
        check=is_vin,
        edge=WORD,
    ),
    Kind(
        "license_plate",
        "Licence plate",
        GROUP,
        after(
            r"licen[cs]e plate|number plate|plates?|plate number|placas?(?: do (?:carro|veículo)| da moto)?|registration|vehicle reg|reg|matrícula|kennzeichen"
            r"|vehicle number|immatriculation",
            PLATE,
        )
        + r"\b",
        "the form of a plate (Brazil, United States, United Kingdom, India, Germany, France, Spain) after plate, placa …",
        edge=NUMBER,
    ),
    Kind(
        "username",
        "User name",
        GROUP,
        r"(?i:\b(?:username|user name|user id|userid|user_name|user|login|nome de usuário|usuário|usuario|nickname|handle"
        r"|benutzername|screen name))(?i: is| é)?(?:[:=]\s?| ?[\"'`]| is )[\"'`@]{0,2}([A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9])",
        "after username, login, usuário … and a colon, an equals sign or a quote",
        check=is_user,
    ),
)
