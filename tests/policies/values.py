"""Values for the sample: right ones of each kind, and ones that only look like it. Made up, with check digits where due."""

import base64
import json
import string
import zlib
from collections.abc import Callable
from random import Random

from stdnum import luhn
from stdnum.it import codicefiscale
from stdnum.mx import curp

from utils import ids

Maker = Callable[[Random], str]
FIRST = [
    "Ana",
    "Bruno",
    "Carla",
    "Daniel",
    "Élise",
    "Fatima",
    "George",
    "Hannah",
    "Ivan",
    "João",
    "Katarina",
    "Liam",
    "María",
    "Noah",
    "Olívia",
    "Pedro",
    "Ravi",
    "Sofia",
    "Thiago",
    "Uma",
]
LAST = [
    "Silva",
    "Müller",
    "Johnson",
    "Souza",
    "García",
    "O'Connor",
    "Patel",
    "Rossi",
    "Nakamura",
    "Almeida",
    "Schmidt",
    "Lefèvre",
    "Brown",
    "Costa",
    "Kowalski",
    "Ferreira",
]
STREETS = ["Maple", "Oak", "Lincoln", "Washington", "Cedar", "Park", "Elm", "Sunset", "Church", "Mill"]
RUAS = ["das Flores", "Augusta", "Sete de Setembro", "XV de Novembro", "Domingos de Morais", "Barão de Itapetininga"]
HOSTS = [
    "example.com",
    "mail.example.org",
    "corp.example.co.uk",
    "exemplo.com.br",
    "beispiel.de",
    "uni-lyon.example.fr",
]
UPPER, LOWER, ALNUM = string.ascii_uppercase, string.ascii_lowercase, string.ascii_letters + string.digits


def some(rng: Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def number(rng: Random, count: int) -> str:
    return some(rng, "123456789", 1) + some(rng, string.digits, count - 1)


def grouped(text: str, sizes: tuple[int, ...], mark: str) -> str:
    at, parts = 0, []
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return mark.join(parts)


def form(rng: Random, shape: str) -> str:
    """`9` a digit, `A` a capital, `a` a small letter, `*` any of them; the rest as it is."""
    sets = {"9": string.digits, "A": UPPER, "a": LOWER, "*": ALNUM}
    return "".join(rng.choice(sets[sign]) if sign in sets else sign for sign in shape)


def wrong(right: Maker) -> Maker:
    """A value whose last digit is another."""

    def make(rng: Random) -> str:
        value = right(rng)
        last = max(place for place, sign in enumerate(value) if sign.isdigit())
        return value[:last] + str((int(value[last]) + rng.randint(1, 9)) % 10) + value[last + 1 :]

    return make


def card(rng: Random) -> str:
    start, count, sizes = rng.choice(
        [
            ("4", 16, (4,) * 4),
            ("51", 16, (4,) * 4),
            ("2221", 16, (4,) * 4),
            ("37", 15, (4, 6, 5)),
            ("6011", 16, (4,) * 4),
            ("36", 14, (4, 6, 4)),
        ]
    )
    body = start + some(rng, string.digits, count - len(start) - 1)
    value = body + luhn.calc_check_digit(body)
    return rng.choice([value, grouped(value, sizes, " "), grouped(value, sizes, "-")])


def iban(rng: Random) -> str:
    country, body = rng.choice(
        [
            ("DE", some(rng, string.digits, 18)),
            ("GB", some(rng, UPPER, 4) + some(rng, string.digits, 14)),
            ("NL", some(rng, UPPER, 4) + some(rng, string.digits, 10)),
            ("BR", some(rng, string.digits, 23) + rng.choice(UPPER) + "1"),
            ("CH", some(rng, string.digits, 17)),
            ("AT", some(rng, string.digits, 16)),
        ]
    )
    digits = "".join(str(int(sign, 36)) for sign in body + country + "00")
    value = f"{country}{98 - int(digits) % 97:02d}{body}"
    return rng.choice([value, " ".join(value[at : at + 4] for at in range(0, len(value), 4))])


def phone(rng: Random) -> str:
    area, rest = rng.choice(["212", "415", "312", "617", "305"]), f"{rng.randint(220, 998)}"
    last = some(rng, string.digits, 4)
    return rng.choice(
        [
            f"({area}) {rest}-{last}",
            f"+1 {area} {rest} {last}",
            f"{area}-{rest}-{last}",
            f"+1-{area}-{rest}-{last}",
            f"{area}.{rest}.{last}",
            f"+55 11 9{rng.randint(6000, 9999)}-{last}",
            f"(21) 9{rng.randint(7000, 9999)}-{last}",
            f"(11) 3{some(rng, '2345678', 3)}-{last}",
            f"+44 20 7946 0{some(rng, string.digits, 3)}",
            f"+44 7400 {number(rng, 6)}",
            f"+49 30 {rng.randint(200000, 999999)}",
            f"+91 98{some(rng, string.digits, 3)} {some(rng, string.digits, 5)}",
            f"+33 6 12 34 {some(rng, string.digits, 2)} {some(rng, string.digits, 2)}",
        ]
    )


def spoken_phone(rng: Random) -> str:
    return rng.choice(
        [
            f"212{rng.randint(220, 998)}{some(rng, string.digits, 4)}",
            f"119{rng.randint(60000000, 99999999)}",
            f"11 9{rng.randint(60000000, 99999999)}",
            phone(rng),
        ]
    )


def email(rng: Random) -> str:
    first, last = (
        rng.choice(["ana", "bruno", "carla", "d.lee", "fatima", "joao"]),
        rng.choice(["silva", "mueller", "patel", "rossi"]),
    )
    return (
        rng.choice(
            [f"{first}.{last}", f"{first}_{last}", f"{first}+news", first + str(rng.randint(1, 99)), f"{last}-{first}"]
        )
        + "@"
        + rng.choice(HOSTS)
    )


def address(rng: Random) -> str:
    at = rng.randint(1, 9999)
    return rng.choice(
        [
            f"{at} {rng.choice(STREETS)} {rng.choice(['Street', 'St.', 'Avenue', 'Ave', 'Road', 'Lane', 'Blvd', 'Drive'])}",
            f"{at} N. {rng.choice(STREETS)} St, Apt {rng.randint(1, 40)}",
            f"Rua {rng.choice(RUAS)}, {at}",
            f"Av. {rng.choice(['Paulista', 'Brasil', 'Getúlio Vargas'])}, {at}",
            f"{rng.choice(['Haupt', 'Bahnhof', 'Garten', 'Schiller'])}straße {rng.randint(1, 200)}",
            f"{rng.randint(1, 200)} rue {rng.choice(['de la Paix', 'Victor Hugo', 'du Bac'])}",
            f"P.O. Box {rng.randint(10, 9999)}",
            f"Calle {rng.choice(['Mayor', 'de Alcalá', 'Serrano'])} {rng.randint(1, 300)}",
        ]
    )


def url(rng: Random) -> str:
    return (
        rng.choice(["https://", "http://", "https://www."])
        + rng.choice(HOSTS)
        + rng.choice(
            ["", "/", "/docs/page.html", "/a/b?x=1&y=two", f"/orders/{rng.randint(1, 9999)}#top", ":8080/health"]
        )
    )


def name(rng: Random) -> str:
    return rng.choice(
        [
            f"{rng.choice(FIRST)} {rng.choice(LAST)}",
            f"{rng.choice(FIRST)} {rng.choice(LAST)} {rng.choice(LAST)}",
            f"{rng.choice(FIRST)} da {rng.choice(LAST)}",
            rng.choice(FIRST),
        ]
    )


def day(rng: Random) -> str:
    d, m, y = rng.randint(13, 28), rng.randint(1, 12), rng.randint(1950, 2026)
    english = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ][m - 1]
    mes = [
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ][m - 1]
    return rng.choice(
        [
            f"{y}-{m:02d}-{d}",
            f"{d}/{m:02d}/{y}",
            f"{m}/{d}/{y}",
            f"{english} {d}, {y}",
            f"{d} {english} {y}",
            f"{d} de {mes} de {y}",
            f"{d}.{m:02d}.{y}",
        ]
    )


def ip(rng: Random) -> str:
    v4 = ".".join(str(rng.randint(1, 254)) for _ in range(4))
    return rng.choice(
        [
            v4,
            v4,
            v4,
            "2001:db8::" + some(rng, "123456789abcdef", 3) + "1",
            "fe80::1ff:fe23:4567:890a",
            ":".join("2" + some(rng, "0123456789abcdef", 3) for _ in range(8)),
        ]
    )


def vin(rng: Random) -> str:
    letters = "0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ"
    weights = "8765432X098765432"
    value = list(some(rng, "ABCDEFGHJKLMNPRSTUVWXYZ0123456789", 17))
    value[8] = "0"
    total = sum(
        letters.index(sign) % 10 * (10 if weight == "X" else int(weight))
        for sign, weight in zip(value, weights, strict=True)
    )
    value[8] = "0123456789X"[total % 11]
    return "".join(value)


def digits_with(
    calc: Callable[[str], str], start: str, count: int, sizes: tuple[int, ...], marks: tuple[str, ...]
) -> Maker:
    def make(rng: Random) -> str:
        body = start + some(rng, "123456789", count - len(start))
        value = body + calc(body)
        return grouped(value, sizes, rng.choice(marks)) if marks else value

    return make


def nhs(rng: Random) -> str:
    while True:
        body = number(rng, 9)
        check = 11 - sum(int(sign) * weight for sign, weight in zip(body, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            value = body + str(check % 11)
            return rng.choice([value, grouped(value, (3, 3, 4), " "), grouped(value, (3, 3, 4), "-")])


def national(rng: Random, calc: Callable[[str], str], count: int, shape: str) -> str:
    body = number(rng, count)
    value = iter(body + calc(body))
    return "".join(next(value) if sign == "#" else sign for sign in shape)


def fiscal(rng: Random) -> str:
    body = (
        form(rng, "AAAAAA")
        + f"{rng.randint(40, 99)}{rng.choice('ABCDEHLMPRST')}{rng.randint(1, 28):02d}{rng.choice('ABCDEFGH')}{some(rng, string.digits, 3)}"
    )
    return body + codicefiscale.calc_check_digit(body)


def mexican(rng: Random) -> str:
    body = (
        "GAML"
        + f"{rng.randint(50, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{rng.choice('HM')}DF"
        + some(rng, "BCDFGRST", 3)
        + "0"
    )
    return body + curp.calc_check_digit(body)


def ours(rng: Random) -> str:
    body = some(rng, ALNUM, 43)
    return "sk-th-" + body + ids.base62(zlib.crc32(body.encode()), 6)


def token(rng: Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return ".".join(
        [
            part({"alg": rng.choice(["HS256", "RS256"]), "typ": "JWT"}),
            part({"sub": rng.randint(1, 9**9)}),
            some(rng, ALNUM + "-_", 43),
        ]
    )


def private_key(rng: Random) -> str:
    kind = rng.choice(["RSA ", "", "EC ", "OPENSSH "])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{some(rng, ALNUM + '+/', 64)}\n{some(rng, ALNUM + '+/', 40)}=\n-----END {kind}PRIVATE KEY-----"


def shaped(*shapes: str) -> Maker:
    return lambda rng: form(rng, rng.choice(shapes))
