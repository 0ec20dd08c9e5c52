"""Who somebody is: names, ages and dates, found only where words announce them or where their form says it."""

import re
from datetime import date
from typing import Final

from services.policies.kind import FREE, NUMBER, Kind, after

GROUP: Final = "personal"
MONTHS: Final = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec"
    "|janeiro|fevereiro|março|marco|abril|maio|junho|julho|agosto|setembro|outubro|novembro|dezembro"
    "|enero|febrero|marzo|mayo|junio|julio|septiembre|octubre|noviembre|diciembre"
    "|janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre"
    "|Januar|Februar|März|Juni|Juli|Oktober|Dezember"
)
CLOCK: Final = (
    r"(?:(?:T|,? (?:at )?|,? às )\d{1,2}[:h]\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[AaPp]\.?[Mm]\.?|Z|[+-]\d{2}:?\d{2})?)?"
)
DATE: Final = (
    rf"\b(?:(?:19|20)\d{{2}}-\d{{2}}-\d{{2}}|\d{{1,2}}[/.]\d{{1,2}}[/.](?:19|20)\d{{2}}|\d{{1,2}}-\d{{1,2}}-(?:19|20)\d{{2}}"
    rf"|(?i:(?:{MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d{{2}})"
    rf"|(?i:\d{{1,2}}(?:st|nd|rd|th|º|er|\.)? (?:of |de )?(?:{MONTHS})\.?,? (?:de |del )?(?:19|20)\d{{2}}))"
)
NUMBERS: Final = re.compile(r"\d+")
PERSON: Final = (
    r"\p{Lu}[\p{L}'’-]+(?: (?:d[aeo]s?|del|van|von|der|la|le|e|y|bin|al|\p{Lu}[\p{L}'’-]+|\p{Lu}\b\.?)){0,4}"
)
NAMED: Final = (
    "my name is|my name's|his name is|her name is|their name is|name is|name's|i am called|i'm called|call me|signed by"
    "|meu nome é|meu nome e|o nome dele é|o nome dela é|nome é|me chamo|eu sou o|eu sou a|aqui é o|aqui é a|chamo-me"
    "|mi nombre es|me llamo|je m'appelle|ich heiße|ich heisse|mein name ist|mi chiamo"
    "|full name|first name|last name|surname|nome completo|sobrenome|patient name|customer name|nome do paciente"
    "|nome do cliente|paciente|cardholder|titular|contact person"
)
TITLES: Final = r"Mr|Mrs|Ms|Miss|Dr|Prof|Sr|Sra|Dra|Herr|Frau|Mme|Señor|Señora|Dona|Mx"
NO_NAMES: Final = frozenset(  # words with a capital that follow such announcements and name nobody
    re.split(
        " ",
        "Not The This That It An In On At Is If Or And But None Null True False Required Optional String Unknown N/A"
        " Customer Sir Madam Team Support Obrigatório Não O A El Il Der Die Das",
    )
)
BORN: Final = (
    r"born on|born|dob|d\.o\.b\.?|date of birth|birth ?date|birthday|nascid[oa] em|nasceu em|nasci em|data de nascimento"
    r"|nascimento|nacid[oa] el|fecha de nacimiento|né le|née le|date de naissance|geboren am|geburtsdatum"
)
OLDEST: Final = 120  # years


def is_name(value: str) -> bool:
    """Whether it does not begin with a word that is no name."""
    return value.split(" ", maxsplit=1)[0] not in NO_NAMES and not value.isupper()


def is_age(value: str) -> bool:
    """Whether people become that old."""
    return any(0 < int(number) <= OLDEST for number in NUMBERS.findall(value)[:1])


def is_date(value: str) -> bool:
    """Whether there is such a day in some order of day, month and year."""
    numbers = [int(number) for number in NUMBERS.findall(value)[:3]]
    years = [number for number in numbers if number > 1000]  # noqa: PLR2004 - years have four digits
    others = [number for number in numbers if number <= 1000]  # noqa: PLR2004 - years have four digits
    if not years or not others:
        return False
    if re.match(r"\d+[-/.]\d+[-/.]\d", value) is None:  # the month is a word
        return 1 <= others[0] <= 31  # noqa: PLR2004 - days of a month
    return _is_day(years[0], others[0], others[1]) or _is_day(years[0], others[1], others[0])


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


PERSONAL: Final = (
    Kind(
        "birth_date",
        "Date of birth",
        GROUP,
        after(BORN, DATE.removeprefix(r"\b") + r"|\d{1,2}[/.-]\d{1,2}[/.-]\d{2}"),
        "a date after born, DOB, data de nascimento …",
        edge=NUMBER,
    ),
    Kind(
        "date_time",
        "Date, with or without the time",
        GROUP,
        DATE + CLOCK,
        "a day, month and year that exist, in figures or with the month in English, Portuguese, Spanish, French or"
        " German; dates without the year and times alone are not found",
        check=is_date,
        edge=NUMBER,
        most_chars=80,
    ),
    Kind(
        "age",
        "Age",
        GROUP,
        r"\b(\d{1,3}[ -](?i:years?|yrs?)[ -](?i:old|of age))\b|(?i:\b(?:aged?|idade|edad|alter)[: ]{1,3}(?:(?:is|é|of|de) )?)"
        r"(\d{1,3}(?i: (?:years|anos|años|jahre))?)\b|\b\d{1,3} (?i:anos de idade|años de edad|ans|jahre alt|y/o)\b"
        r"|(?i:\b(?:tenho|tinha|tem|tiene|tengo|completou|fez|completei) )(\d{1,3} (?i:anos|años))\b",
        "a number up to 120 with years old, aged, anos de idade, tenho … anos",
        check=is_age,
    ),
    Kind(
        "name",
        "Name of a person",
        GROUP,
        rf"(?i:\b(?:{NAMED}))(?i: is| é)?[:=\s\"'*]{{1,3}}({PERSON})",
        "words with capitals after my name is, full name, me chamo, paciente …; a name that nothing announces is not"
        " found",
        check=is_name,
        edge=FREE,
    ),
    Kind(
        "titled_name",
        "Name of a person after a title",
        GROUP,
        rf"\b(?:{TITLES})\.? ({PERSON})",
        "words with capitals after Mr., Dr., Sra., Frau …",
        check=is_name,
        edge=FREE,
    ),
)
