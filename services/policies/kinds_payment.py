"""Cards and accounts: what money is taken from or sent to."""

import re
from typing import Final

from phonenumbers import SUPPORTED_REGIONS
from stdnum import bic, bitcoin, iban, luhn
from stdnum.us import rtn

from services.policies.kind import NUMBER, Kind, after, digits

CARDS, ACCOUNTS = "payment", "bank"
# First digits and lengths of the networks (ISO/IEC 7812 and what they publish).
NETWORK: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-59]|[68]\d)\d{11}(?:\d{2})?"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12}(?:\d{3})?"  # JCB
    r"|(?:50|5[6-8]|6[0-8]|81)\d{14}(?:\d{1,3})?"  # Discover, UnionPay, Maestro, Elo, Hipercard, RuPay, Troy …
)
CVV: Final = (
    "cvv2?|cvc2?|cvn|csc|card verification(?: code| value)?|security code|código de segurança|codigo de seguranca"
)
EXPIRY: Final = (
    r"exp|exp\.|expiry|expires|expiration|expiring|(?:exp|expiry|expiration) date|(?:valid|good) thru|valid until"
    "|validade|vencimento|vence em|vence|válido até|valido ate|caduca|expira em|expira"
)
MONTH_YEAR: Final = r"(?:0[1-9]|1[0-2]) ?[/-] ?(?:20)?[2-4]\d"
PIN: Final = r"pin|pin code|pin number|pin é|código pin|codigo pin|senha do cartão|senha de 4 dígitos|atm code"
ACCOUNT: Final = (
    r"account(?: number| no| num)?|acct|a/c|bank account|checking account|savings account|conta corrente|conta poupança"
    r"|conta bancária|número da conta|conta|c/c|kontonummer|cuenta(?: bancaria)?"
)


def is_card(value: str) -> bool:
    """Whether a network has such numbers, the check digit is right, and it is no row of one digit."""
    number = digits(value)
    return (
        NETWORK.fullmatch(number) is not None
        and len(set(number)) > 1
        and len({mark for mark in value if not mark.isdecimal()}) <= 1
        and luhn.is_valid(number)
    )


def is_iban(value: str) -> bool:
    """Whether length, country and check digits fit."""
    return bool(iban.is_valid(value.replace(" ", "").replace("-", ""), check_country=False))


def is_bic(value: str) -> bool:
    """Whether it has the form, with the code of a country."""
    return bool(bic.is_valid(value)) and value[4:6] in SUPPORTED_REGIONS


def is_routing(value: str) -> bool:
    """Whether it is the number of an American bank, or has the form of a British sort code or a Brazilian branch."""
    return len(digits(value)) != 9 or bool(rtn.is_valid(digits(value)))  # noqa: PLR2004 - digits of such a number


def is_account(value: str) -> bool:
    """Whether it has as many digits as accounts have."""
    return 5 <= len(digits(value)) <= 17  # noqa: PLR2004 - the shortest and the longest there are


def is_bitcoin(value: str) -> bool:
    """Whether the checksum is right (base58check or bech32)."""
    return bool(bitcoin.is_valid(value))


PAYMENT: Final = (
    Kind(
        "credit_debit_number",
        "Number of a payment card",
        CARDS,
        r"\b(?:\d{4}[ .-]?\d{4}[ .-]?\d{4}[ .-]?\d{4}(?:[ .-]?\d{3})?\b|3\d{3}[ .-]?\d{6}[ .-]?\d{4,5}\b|\d{13,19}\b)",
        "first digits and length of a network, Luhn's check digit, grouped as cards are or not at all",
        check=is_card,
        edge=NUMBER,
    ),
    Kind(
        "credit_debit_cvv",
        "Security code of a payment card",
        CARDS,
        after(CVV, r"\d{3,4}"),
        "three or four digits after CVV, CVC, security code, código de segurança …",
        edge=NUMBER,
    ),
    Kind(
        "credit_debit_expiry",
        "Expiry of a payment card",
        CARDS,
        rf"{after(EXPIRY, MONTH_YEAR)}|\b\d{{4,6}}[ -]?\d{{3,5}}[\"',;|]{{1,3}} ?[\"']?({MONTH_YEAR})",
        "month and year after exp, expires, valid thru, validade …, or in the field after a number of eight digits",
        edge=NUMBER,
    ),
    Kind(
        "pin",
        "PIN",
        CARDS,
        after(PIN, r"\d{4}(?:\d{2})?"),
        "four or six digits after PIN, senha do cartão …",
        edge=NUMBER,
    ),
)

BANK: Final = (
    Kind(
        "international_bank_account_number",
        "IBAN",
        ACCOUNTS,
        r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?",
        "a country's form and length, check digits modulo 97",
        check=is_iban,
    ),
    Kind(
        "swift_code",
        "SWIFT code (BIC)",
        ACCOUNTS,
        after(r"swift|bic|swift/bic|bic/swift|swift-bic", r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"),
        "its form with the code of a country, after SWIFT or BIC",
        check=is_bic,
    ),
    Kind(
        "bank_routing",
        "Number of a bank or branch",
        ACCOUNTS,
        after(
            r"routing|aba|rtn|routing transit|transit|sort code|agência|agencia|ag\.",
            r"\d{9}|\d{2}-\d{2}-\d{2}|\d{2} \d{2} \d{2}|\d{6}|\d{4}(?:-\d)?",
        ),
        "after routing, ABA, sort code, agência; nine digits with the check digit of the ABA",
        check=is_routing,
        edge=NUMBER,
    ),
    Kind(
        "bank_account_number",
        "Number of a bank account",
        ACCOUNTS,
        after(ACCOUNT, r"\d(?:[ .-]?\d){4,16}(?:-[0-9Xx])?"),
        "5 to 17 digits after account, acct, conta, c/c …",
        check=is_account,
        edge=NUMBER,
    ),
    Kind(
        "bitcoin_address",
        "Bitcoin address",
        ACCOUNTS,
        r"\b(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|(?:bc|BC)1[02-9AC-HJ-NP-Zac-hj-np-z]{11,71})",
        "its checksum (base58check or bech32)",
        check=is_bitcoin,
    ),
)
