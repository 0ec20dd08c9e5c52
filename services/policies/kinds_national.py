"""Numbers that a state gives to a person or a company, told by their check digits where they have any."""

from collections.abc import Callable
from typing import Any, Final

from stdnum import luhn
from stdnum.ar import cuit
from stdnum.br import cnpj, cpf
from stdnum.ca import bc_phn, sin
from stdnum.cl import rut
from stdnum.es import dni, nie
from stdnum.gb import nhs, utr
from stdnum.in_ import aadhaar, epic, pan
from stdnum.it import codicefiscale
from stdnum.mx import curp
from stdnum.us import itin, ssn

from services.policies.kind import GAP, LINK, NUMBER, Kind, after, digits, plain

GROUP: Final = "national"
# States as job cards of NREGA and vehicles name them.
INDIAN_STATES: Final = (
    "AN|AP|AR|AS|BH|BR|CH|CG|CT|DD|DL|DN|GA|GJ|GO|HP|HR|JH|JK|KA|KL|LA|LD|MH|ML|MN|MP|MZ|NL|OD|OR|PB|PY|RJ|SK|TG|TN|TR|TS|UK"
    "|UP|UT|WB"
)
HEALTH_DIGITS, LEAST_DIGITS = 10, 5


def valid(module: Any) -> Callable[[str], bool]:
    """A check by one module of python-stdnum."""

    def check(value: str) -> bool:
        return bool(module.is_valid(plain(value)))

    return check


def is_health(value: str) -> bool:
    """Whether it has the check digit of Ontario's or British Columbia's numbers."""
    number = digits(value)
    return len(number) == HEALTH_DIGITS and bool(luhn.is_valid(number) or bc_phn.is_valid(number))


def is_licence(value: str) -> bool:
    """Whether it has as many digits as licences and passports have, and is no single word."""
    return sum(map(str.isdecimal, value)) >= LEAST_DIGITS


def is_dni(value: str) -> bool:
    """Whether the letter of a DNI or NIE is right."""
    number = plain(value)
    return bool(dni.is_valid(number) or nie.is_valid(number))


def is_rut(value: str) -> bool:
    """Whether the check digit of a RUT is right."""
    return bool(rut.is_valid(plain(value)))


def _kind(name: str, title: str, pattern: str, how: str, check: Callable[[str], bool] | None = None) -> Kind:
    return Kind(name, title, GROUP, pattern, how, check=check, edge=NUMBER)


def _either(anywhere: str, words: str, announced: str) -> str:
    """A form that is found anywhere, or another one after some words."""
    return rf"{anywhere}|{after(words, announced, GAP)}\b"


NATIONAL: Final = (
    _kind(
        "ssn",
        "Social security number (United States)",
        _either(r"\b\d{3}-\d{2}-\d{4}\b", "ssns?|social security", r"[0-8]\d{2}[ .-]?\d{2}[ .-]?\d{4}"),
        "areas, groups and serials that are given out; without hyphens after SSN or social security",
        valid(ssn),
    ),
    _kind(
        "us_individual_tax_identification_number",
        "Individual taxpayer number (United States)",
        _either(r"\b9\d{2}-\d{2}-\d{4}\b", "itin|taxpayer|tax id|tin", r"9\d{2}[ .-]?\d{2}[ .-]?\d{4}"),
        "the groups that are given out; without hyphens after ITIN, taxpayer, tax ID",
        valid(itin),
    ),
    _kind(
        "ca_social_insurance_number",
        "Social insurance number (Canada)",
        after(r"sin|social insurance|nas|assurance sociale", r"\d{3}[ -]?\d{3}[ -]?\d{3}", GAP) + r"\b",
        "Luhn's check digit and first digits, after SIN, social insurance, NAS",
        valid(sin),
    ),
    _kind(
        "ca_health_number",
        "Health number (Canada)",
        after(
            r"ohip|health card|health number|health insurance|phn|care card|carte santé|msp",
            r"\d{4}[ -]?\d{3}[ -]?\d{3}(?:[ -]?[A-Z]{2}\b)?",
            GAP,
        ),
        "the check digit of Ontario or British Columbia, after OHIP, health card, PHN",
        is_health,
    ),
    _kind(
        "uk_national_health_service_number",
        "NHS number (United Kingdom)",
        after(r"nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", GAP) + r"\b",
        "check digit modulo 11, after NHS",
        valid(nhs),
    ),
    _kind(
        "uk_national_insurance_number",
        "National insurance number (United Kingdom)",
        r"\b(?:[ACEHJLMOPRSWXY][A-CEGHJ-NPR-TW-Z]|B[A-CEHJ-NPR-TW-Z]|G[ACEGHJ-MPR-TW-Z]|[KT][A-CEGHJ-MPR-TW-Z]"
        r"|N[A-CEGHJLMPR-SW-Z]|Z[A-CEGHJ-NPR-TW-Y])(?: ?\d{2}){3} ?[A-D]\b",
        "its form, without the prefixes that are never given out",
    ),
    _kind(
        "uk_unique_taxpayer_reference_number",
        "Taxpayer reference (United Kingdom)",
        after(r"utr|taxpayer reference|tax reference", r"\d{5}[ -]?\d{5}", GAP) + r"\b",
        "its check digit, after UTR or taxpayer reference",
        valid(utr),
    ),
    _kind(
        "in_aadhaar",
        "Aadhaar (India)",
        _either(r"\b[2-9]\d{3}[ -]\d{4}[ -]\d{4}\b", "aadhaar|aadhar|uidai|uid", r"[2-9]\d{11}"),
        "Verhoeff's check digit, in groups of four, or after Aadhaar",
        valid(aadhaar),
    ),
    _kind(
        "in_permanent_account_number",
        "Permanent account number (India)",
        r"\b[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]\b",
        "its form, with the letter of a kind of holder",
        valid(pan),
    ),
    _kind(
        "in_voter_number",
        "Voter number (India)",
        after(r"voter|epic|electoral|election|elector", r"[A-Z]{3}\d{7}", GAP) + r"\b",
        "its check digit, after voter, EPIC, election",
        valid(epic),
    ),
    _kind(
        "in_nrega",
        "Job card of NREGA (India)",
        rf"\b(?:{INDIAN_STATES})-\d{{2}}-\d{{3}}-\d{{3}}-\d{{3}}/\d{{1,5}}\b",
        "its form, with the code of a state",
    ),
    _kind(
        "br_cpf",
        "CPF (Brazil)",
        _either(r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b", "cpf", r"\d{3}[. ]?\d{3}[. ]?\d{3}[ -]?\d{2}"),
        "its two check digits; without points after CPF",
        valid(cpf),
    ),
    _kind(
        "br_cnpj",
        "CNPJ (Brazil)",
        r"\b[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-\d{2}\b|(?i:\bcnpj)[^\n\d]{0,24}?(\d{14})\b",
        "its two check digits, with letters too as from 2026; without points after CNPJ",
        valid(cnpj),
    ),
    _kind(
        "br_rg",
        "RG (Brazil)",
        after(r"rg|registro geral|carteira de identidade", r"\d{1,2}\.\d{3}\.\d{3}-[\dXx]|\d{7,9}(?:-?[\dXx])?", LINK),
        "its form, after RG or carteira de identidade",
    ),
    _kind(
        "es_national_identity",
        "DNI or NIE (Spain)",
        r"\b(?:\d{8}|\d{2}\.\d{3}\.\d{3}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]\b",
        "its letter",
        is_dni,
    ),
    _kind(
        "it_fiscal_code",
        "Codice fiscale (Italy)",
        r"\b[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]\b",
        "its check letter",
        valid(codicefiscale),
    ),
    _kind(
        "mx_curp",
        "CURP (Mexico)",
        r"\b[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d\b",
        "its date, state and check digit",
        valid(curp),
    ),
    _kind("ar_cuit", "CUIT (Argentina)", r"\b(?:2[03-7]|3[034])-\d{8}-\d\b", "its check digit", valid(cuit)),
    _kind("cl_rut", "RUT (Chile)", r"\b\d{1,2}\.\d{3}\.\d{3}-[\dkK]\b", "its check digit", is_rut),
    _kind(
        "driver_id",
        "Driving licence",
        after(
            r"driver'?s? licen[cs]e|driving licen[cs]e|driver'?s? id|driver id|licen[cs]e number|dl|dln|cnh"
            r"|carteira de motorista|habilitação|führerschein|permis de conduire",
            r"[A-Z]{0,5}[ -]?\d[0-9A-Z -]{4,18}[0-9A-Z]|[A-Z]\d{5,13}",
        ),
        "five digits and more after driver's license, DL, CNH …",
        is_licence,
    ),
    _kind(
        "passport_number",
        "Passport",
        after(r"passport|passaporte|pasaporte|reisepass|passeport", r"[A-Z]{0,2}\d{6,9}|[A-Z]\d{2}[A-Z]{2}\d{5}"),
        "its form, after passport, passaporte …",
        is_licence,
    ),
)
