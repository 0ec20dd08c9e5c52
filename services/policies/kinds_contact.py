"""How to reach somebody: addresses of mail, telephone, post and the web."""

import re
from typing import Final

import phonenumbers

from services.policies.kind import FREE, NUMBER, Kind, digits

GROUP: Final = "contact"
FILES: Final = re.compile("css|gif|html?|ico|jpe?g|js|json|md|mp4|pdf|png|py|svg|ts|txt|webp|zip", re.IGNORECASE)
MOST_LOCAL, MOST_EMAIL = 64, 254  # characters, RFC 5321
PHONE_DIGITS: Final = (7, 15)
LONGEST_CODE: Final = 3  # digits of a country's code
CAPITAL: Final = r"[A-ZÀ-ÖØ-Þ][\w\x{C0}-\x{17F}.'-]*"
STREETS: Final = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Square|Sq|Terrace|Parkway|Pkwy"
    "|Highway|Hwy|Circle|Cir|Close|Crescent|Gardens|Grove|Mews|Row|Trail"
)
ROADS: Final = (
    r"Rua|R\.|Avenida|Av\.?|Travessa|Alameda|Praça|Praca|Rodovia|Estrada|Largo|Viela"
    r"|Calle|Carrera|Paseo|Plaza|Via|Viale|Piazza"
)
STREET: Final = (
    rf"\d{{1,5}}[A-Z]?,? (?:[NSEW]\.? |North |South |East |West )?(?:(?:{CAPITAL}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,3}}"
    rf"(?:{STREETS})\b\.?(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?[\w-]{{1,6}})?"
    rf"(?:,? {CAPITAL}(?: {CAPITAL}){{0,2}})?(?:,? [A-Z]{{2}}\b)?(?:,? \d{{5}}(?:-\d{{4}})?\b)?"
)
ROAD: Final = (
    rf"\b(?:{ROADS}) (?:(?:{CAPITAL}|d[aeo]s?|del?|la|las|los|di|della|e|\d{{1,2}}) ?){{1,6}},? ?"
    r"(?:n[º°.o]{0,2} ?|número |numero |#)?\d{1,5}\b(?:[ ,-]{1,3}(?:apto?|apartamento|bloco|sala|piso)\.? ?\w{1,5})?"
    r"(?:,? (?:CEP:? )?\d{5}-\d{3}\b)?"
)
RUE: Final = (
    r"\b\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|allée|impasse|quai|cours)"
    rf"(?: (?:{CAPITAL}|d[eu]s?|l[ae]s?|d'{CAPITAL})){{1,5}}(?:,? \d{{5}}\b(?: {CAPITAL})?)?"
)
STRASSE: Final = (
    r"\b[A-ZÄÖÜ][a-zäöüß-]+(?:straße|strasse|str\.|weg|platz|allee|gasse|damm|ufer) \d{1,4}(?: ?[a-z])?\b"
    rf"(?:,? \d{{5}}\b(?: {CAPITAL})?)?"
)
BOX: Final = r"(?i:\bP\.? ?O\.? Box|\bCaixa Postal|\bPostfach|\bApartado(?: de Correos)?) \d{2,6}\b"
POSTCODE: Final = r"\b(?:GIR 0AA|[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2})\b|(?i:\bCEP)[:\s]{1,3}\d{5}-?\d{3}\b"


def is_email(value: str) -> bool:
    """Whether its parts have their lengths, and it does not end like the name of a file."""
    local, _at, domain = value.rpartition("@")
    ending = domain.rpartition(".")[2]
    return (
        len(local) <= MOST_LOCAL
        and len(value) <= MOST_EMAIL
        and ".." not in value
        and not local.endswith(".")
        and local != "git"  # git@host:path names a repository
        and ending.isalpha()
        and FILES.fullmatch(ending) is None
    )


def is_phone(value: str, regions: tuple[str, ...]) -> bool:
    """Whether a country has such numbers: the one it names, or else one of the regions."""
    count = sum(map(str.isdecimal, value))
    if not PHONE_DIGITS[0] <= count <= PHONE_DIGITS[1] or value.count("(") != value.count(")"):
        return False
    if value.startswith("+") and _is_whole(digits(value)):
        return True
    for region in (None,) if value.startswith("+") else regions:
        try:
            number = phonenumbers.parse(value, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return True
    return False


def _is_whole(number: str) -> bool:
    """Whether it is the code of a country and a number there, no more: most are, and reading them costs a third."""
    for end in range(1, LONGEST_CODE + 1):
        code, rest = int(number[:end]), number[end:]
        if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            found = phonenumbers.PhoneNumber(country_code=code, national_number=int(rest))
            main = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code][0]  # to ask all that share a code takes twice as long
            return not rest.startswith("0") and (
                phonenumbers.is_valid_number_for_region(found, main) or phonenumbers.is_valid_number(found)
            )
    return False


CONTACT: Final = (
    Kind(
        "email",
        "E-mail address",
        GROUP,
        r"[\p{L}\p{N}_][\p{L}\p{N}._%+-]*@[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?"
        r"(?:\.[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?)+",
        "lengths of RFC 5321; a top-level domain of letters that is no ending of a file; not `git@host`",
        check=is_email,
        most_chars=MOST_EMAIL + 2,
    ),
    Kind(
        "phone",
        "Telephone number",
        GROUP,
        r"\+\d(?:[ ().-]{0,2}\d){6,14}|\(\d{2,4}\) ?\d{3,5}[ .-]?\d{3,4}|\b\d{3}[ .-]\d{3}[ .-]\d{4}"
        r"|\b\d{2} 9?\d{4}-\d{4}|\b0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}|\b9\d{4}-\d{4}"
        r"|\b1[ .-]\d{3}[ .-]\d{3}[ .-]\d{4}"
        r"|(?i:\b(?:phone|tel|telephone|telefone|telefon|teléfono|mobile|cell|cellphone|whatsapp|celular|call|text|fax|zap"
        r"|ligue|liga|fone|contact number))[^\n\d+(]{0,20}(\(?\d(?:[ ().-]{0,2}\d){6,13})",
        "libphonenumber: with a country's code anywhere; without, in the chosen regions, as telephone numbers are"
        " written or after a word such as phone, call, celular",
        check_in=is_phone,
        edge=NUMBER,
        unless_after=("version", "invoice", "order", "pedido", "nota fiscal", "isbn", "tracking", "protocolo", "sku"),
    ),
    Kind(
        "address",
        "Postal address",
        GROUP,
        f"\\b{STREET}|{ROAD}|{RUE}|{STRASSE}|{BOX}|{POSTCODE}",
        "a number with a type of street (English, Portuguese, Spanish, French, German, Italian), a post office box, a"
        " British postcode, a CEP after that word",
        most_chars=220,
    ),
    Kind(
        "url",
        "Web address",
        GROUP,
        r"(?i:\b(?:https?|ftps?|wss?)://|\bwww\.)[^\s<>\"'`{}|\\^\[\]]*[^\s<>\"'`{}|\\^\[\].,;:!?()*_]",
        "a scheme of the web, or www., up to a space, a quote or the full stop of the sentence",
        edge=FREE,
        most_chars=2048,
    ),
)
