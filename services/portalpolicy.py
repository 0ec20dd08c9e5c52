"""What people may do by themselves in the portal. Admins say so in configuration values; without them, defaults hold.

    portal.keys            whether people make keys: yes or no (yes)
    portal.keys.most       how many working ones a person may have (10)
    portal.keys.longest    how long a new one may live, such as 90d; it must then have an end (no end needed)
    portal.requests        whether people ask for higher budgets and limits: yes or no (yes)
    portal.delete_account  whether people delete their own account: yes or no (no)

Others with that beginning, and values that cannot be read, are refused when they are given. One that came in otherwise
forbids what it is about, and the portal says which one it is. Secret values are not read.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import SystemConfig
from services import durations
from services.errors import FieldsInvalid

PREFIX: Final = "portal."
MOST_KEYS: Final = 10
NAMES: Final = ("keys", "keys.most", "keys.longest", "requests", "delete_account")
YES_OR_NO: Final = "is yes or no"
NUMBER: Final = "is a whole number up to 99,999"
TIME: Final = "is a time, such as 90d or 12h"
FLAGS: Final = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Policy:
    """What people may do. `unread`: the configuration values that cannot be read."""

    may_make_keys: bool = True
    most_keys: int = MOST_KEYS
    longest: timedelta | None = None  # None = a key needs no end
    longest_text: str = ""
    may_ask: bool = True
    may_delete_account: bool = False
    unread: tuple[str, ...] = ()


def read(session: Session) -> Policy:
    """The policy of now, in one statement."""
    wanted = (SystemConfig.key.startswith(PREFIX, autoescape=True), ~SystemConfig.is_secret)
    rows = session.execute(select(SystemConfig.key, SystemConfig.value).where(*wanted)).tuples().all()
    return of_values({key.removeprefix(PREFIX): value or "" for key, value in rows})


def of_values(values: dict[str, str]) -> Policy:
    """The same from values without the prefix of their keys."""
    unread: list[str] = []
    most, longest = _number(values, unread), _time(values, unread)
    may_make_keys = _flag(values, "keys", unread, default=True)
    is_readable = not {"portal.keys.most", "portal.keys.longest"} & set(unread)
    return Policy(
        may_make_keys=may_make_keys and is_readable,
        most_keys=most,
        longest=longest,
        longest_text=values.get("keys.longest", "").strip(),
        may_ask=_flag(values, "requests", unread, default=True),
        may_delete_account=_flag(values, "delete_account", unread, default=False),
        unread=tuple(unread),
    )


def check(key: str, value: str | None, *, is_secret: bool) -> None:
    """Whether a configuration value is one that the portal can read, or has nothing to do with it.

    Raises:
        FieldsInvalid: neither.
    """
    name = key.removeprefix(PREFIX)
    if name == key:
        return
    if name not in NAMES:
        names = ", ".join(PREFIX + one for one in NAMES)
        raise FieldsInvalid({"key": f"is none of {names}"})
    if is_secret:
        raise FieldsInvalid({"is_secret": "is false for values that the portal reads"})
    if of_values({name: value or ""}).unread:
        raise FieldsInvalid({"value": NUMBER if name == "keys.most" else TIME if name == "keys.longest" else YES_OR_NO})


def _flag(values: dict[str, str], name: str, unread: list[str], *, default: bool) -> bool:
    text = values.get(name, "").strip().lower()
    if not text:
        return default
    if text not in FLAGS:
        unread.append(PREFIX + name)
    return FLAGS.get(text, False)


def _number(values: dict[str, str], unread: list[str]) -> int:
    text = values.get("keys.most", "").strip()
    if not text:
        return MOST_KEYS
    if text.isascii() and text.isdigit() and len(text) < len(str(10**6)):
        return int(text)
    unread.append(f"{PREFIX}keys.most")
    return 0


def _time(values: dict[str, str], unread: list[str]) -> timedelta | None:
    text = values.get("keys.longest", "").strip()
    try:
        found = durations.parse(text) if text else None
    except ValueError:
        unread.append(f"{PREFIX}keys.longest")
        return None
    return found or None
