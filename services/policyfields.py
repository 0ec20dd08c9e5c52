"""The members of a policy as clients write and read them, and as they are stored (services/guards/rules.py)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services import fields, owners
from services.errors import FieldsInvalid
from services.fields import Parse, Unfit
from services.guards import rules
from services.policies.kinds import KINDS
from services.policies.scan import BadPattern, steps_of_pattern, steps_of_word

MAX_RULES: Final = 100  # of a kind
MAX_DEFINITION: Final = 1000  # characters of an expression or phrase
MOST_STEPS: Final = 100_000  # of the automata of all expressions and words together, 3 µs each until a policy is used
MAX_QUESTION: Final = 4000  # … of what a judge is asked
MOST_ENDS: Final = 1000  # keys, users, teams or models that one policy is bound to
MOST_CHARS: Final = 100_000_000
PLACES: Final = ("requests", "answers")
FAILURES: Final = ("block", "allow")
UNREDACTED: Final = tuple(action for action in rules.ACTIONS if action != rules.REDACT)
LISTS: Final = {  # members with a list of rules: where they are stored, and how their rules are called by default
    "regexConfig": ("patterns", "pattern"),
    "wordConfig": ("words", "word"),
    "customConfig": ("judges", "judge"),
}


STEPS: Final = {"regexConfig": steps_of_pattern, "wordConfig": steps_of_word}  # how large their rules are


def shown(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The rules as clients see them."""
    size = stored.get("size")
    return {
        "config": {"rules": stored.get("kinds") or {}},
        **{member: {"rules": stored.get(place) or []} for member, (place, _name) in LISTS.items()},
        "sizeConfig": {"maxCharacters": size["chars"], "action": size["action"]} if size else {},
        "onJudgeFailure": "allow" if stored.get("is_open") else "block",
    }


def merged(stored: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of the rules, with those that were given.

    Raises:
        FieldsInvalid: two rules have the same name, or all are too large together.
    """
    found = dict(stored)
    if "config" in values:
        found["kinds"] = values["config"]
    for member, (place, name) in LISTS.items():
        if member in values:
            found[place] = _named(values[member], name)
    if "sizeConfig" in values:
        found["size"] = values["sizeConfig"]
    if "onJudgeFailure" in values:
        found["is_open"] = values["onJudgeFailure"] == "allow"
    taken = {*KINDS, rules.SIZE, rules.UNREADABLE}
    for member, (place, _name) in LISTS.items():
        for index, rule in enumerate(found.get(place) or ()):
            if rule["name"] in taken:
                raise FieldsInvalid({f"{member}.rules.{index}.name": f"`{rule['name']}` is the name of another rule"})
            taken.add(rule["name"])
    if values.keys() & {"config", *LISTS}:  # what was stored before may stay: such a policy can still be disabled
        _check(found)
    return found


def _check(found: Mapping[str, Any]) -> None:
    """Whether the rules can be used together; their sizes are added up before anything is made of all of them.

    Raises:
        FieldsInvalid: they cannot.
    """
    used = 0
    for member, count in STEPS.items():
        for index, rule in enumerate(found.get(LISTS[member][0]) or ()):
            try:
                used = _added(used, count, rule["definition"])
            except Unfit as exc:
                raise FieldsInvalid({f"{member}.rules.{index}.definition": str(exc)}) from exc
    try:
        rules.scanners_of(found)
    except BadPattern as exc:
        raise FieldsInvalid({"regexConfig": f"cannot be used: {exc}"}) from exc


def _named(given: list[dict[str, str]], name: str) -> list[dict[str, str]]:
    """The rules, each with a name."""
    return [{**rule, "name": rule.get("name") or f"{name}_{index}"} for index, rule in enumerate(given, 1)]


def _action(allowed: tuple[str, ...]) -> Parse:
    def parse(value: Any) -> str:
        if value not in allowed:
            raise Unfit(f"must be one of {', '.join(allowed)}")
        return str(value)

    return parse


def _kinds(value: Any) -> dict[str, str]:
    members = _object(value, ("rules",)).get("rules")
    found = {}
    for name, action in (_object(members, (*KINDS, rules.ALL), ".rules") if members else {}).items():
        try:
            found[name] = _action(rules.ACTIONS)(action)
        except Unfit as exc:
            raise Unfit(str(exc), f".rules.{name}") from exc
    return found


def _rules(parsers: Mapping[str, Parse], count: Callable[[str], int] | None = None) -> Parse:
    """An object with a list of rules; `count`: how large one is, added up so that no time goes to more than may be."""

    def parse(value: Any) -> list[dict[str, str]]:
        listed = _object(value, ("rules",)).get("rules") or []
        if not isinstance(listed, list) or len(listed) > MAX_RULES:
            raise Unfit(f"must be a list of at most {MAX_RULES} rules", ".rules")
        found, used = [], 0
        for index, rule in enumerate(listed):
            found.append(_rule(parsers, rule, f".rules.{index}"))
            try:
                used = _added(used, count, found[-1]["definition"]) if count else 0
            except Unfit as exc:
                raise Unfit(str(exc), f".rules.{index}.definition") from exc
        return found

    return parse


def _rule(parsers: Mapping[str, Parse], value: Any, at: str) -> dict[str, str]:
    found = {}
    for name, given in _object(value, tuple(parsers), at).items():
        if given in (None, ""):
            continue
        try:
            found[name] = parsers[name](given)
        except Unfit as exc:
            raise Unfit(str(exc), f"{at}.{name}{exc.at}") from exc
    for name in ("definition", "action"):
        if name not in found:
            raise Unfit("is required", f"{at}.{name}")
    return found


def _object(value: Any, known: tuple[str, ...], at: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit("must be an object", at)
    for name in value:
        if name not in known:
            raise Unfit(f"is none of {', '.join(known)}", f"{at}.{name[: fields.MAX_NAME]}")
    return value


def _definition(most: int) -> Parse:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= most or "\0" in value:
            raise Unfit(f"must be a text of 1 to {most} characters")
        return value

    return parse


def _added(used: int, count: Callable[[str], int], definition: str) -> int:
    """The steps that are used with those of one more expression or word.

    Raises:
        Unfit: it cannot be used, or no more.
    """
    try:
        used += count(definition)
    except BadPattern as exc:
        raise Unfit(f"cannot be used: {exc}") from exc
    if used > MOST_STEPS:
        raise Unfit(f"is too large: all together may have {MOST_STEPS:,} steps")
    return used


def _size(value: Any) -> dict[str, Any] | None:
    given = _object(value, ("maxCharacters", "action"))
    if not given or given.get("maxCharacters") in (None, 0):
        return None
    try:
        most = fields.whole(1, MOST_CHARS)(given["maxCharacters"])
    except Unfit as exc:
        raise Unfit(str(exc), ".maxCharacters") from exc
    try:
        return {"chars": most, "action": _action(UNREDACTED)(given.get("action", rules.BLOCK))}
    except Unfit as exc:
        raise Unfit(str(exc), ".action") from exc


def _places(value: Any) -> list[str]:
    found: list[str] = fields.entries(_action(PLACES))(value)
    if not found:
        raise Unfit(f"must name one of {', '.join(PLACES)}")
    return found


def _ends(value: Any) -> dict[str, list[str]]:
    """Keys, users, teams and models by name."""
    members = _object(value, tuple(f"{scope}s" for scope in owners.SCOPES))
    found = {}
    for name, given in members.items():
        try:
            found[name] = fields.entries(NAME, MOST_ENDS)(given)
        except Unfit as exc:
            raise Unfit(str(exc), f".{name}{exc.at}") from exc
    return found


NAME: Final = fields.text(fields.MAX_NAME, is_required=True)
RULE: Final = {"name": NAME, "definition": _definition(MAX_DEFINITION), "action": _action(rules.ACTIONS)}
MEMBERS: Final[Mapping[str, Parse]] = {
    "name": NAME,
    "tags": fields.some(NAME),
    "config": _kinds,
    "regexConfig": _rules(RULE, steps_of_pattern),
    "wordConfig": _rules(RULE, steps_of_word),
    "customConfig": _rules(
        {
            "name": NAME,
            "definition": _definition(MAX_QUESTION),
            "action": _action(UNREDACTED),
            "model": fields.text(fields.MAX_MODEL),
        }
    ),
    "sizeConfig": _size,
    "onJudgeFailure": _action(FAILURES),
    "appliesTo": _places,
    "enabled": fields.flag,
    "dryRun": fields.flag,
    "everyone": fields.flag,
    "boundTo": _ends,
    "version": fields.whole(0, 2**31 - 1),
}
