"""A policy as a worker knows it: compiled once for each of its versions, and found for each call.

What is stored of a policy's rules (`Policy.rules`), each with an action of ACTIONS:

    kinds      {name of a kind: action}, see services/policies/kinds.py
    patterns   [{name, definition, action}]: regular expressions
    words      [{name, definition, action}]: words and phrases
    judges     [{name, definition, action, model}]: what a model is asked; `model` may be missing
    size       {chars, action}: how many characters a request may have
    is_open    true: where a judge cannot be asked, its rule is passed over
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.policies.kinds import KINDS
from services.policies.scan import BadPattern, Scanner

if TYPE_CHECKING:
    from models_policies import Policy as PolicyRow
    from services.types import Caller, PublicModel

log = logging.getLogger(__name__)

ALLOW: Final = "allow"
WARN: Final = "allow_but_warn"
REDACT: Final = "allow_but_redact"
BLOCK: Final = "block"
ACTIONS: Final = (ALLOW, WARN, REDACT, BLOCK)  # by rising strength
ORDER: Final = (BLOCK, WARN, REDACT)  # in which they look at a text: what is masked is found by nobody any more
ALL: Final = "all"  # among the kinds: those that are not named
SIZE: Final = "size"  # the rule about how large a request is
UNREADABLE: Final = "unreadable"  # the rule of a policy that cannot be compiled, which lets nothing through


@dataclass(frozen=True, slots=True)
class Judge:
    """A rule about which a model is asked. An empty model is the one of the settings."""

    name: str
    definition: str
    action: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """See the module. Each action has a scanner of its own, so that no finding hides one of another action."""

    id: int
    uuid: str
    name: str
    version: int
    is_dry_run: bool = False
    on_requests: bool = True
    on_answers: bool = False
    actions: Mapping[str, str] = field(default_factory=dict)  # by rule
    scanners: Mapping[str, Scanner] = field(default_factory=dict)  # by action
    judges: tuple[Judge, ...] = ()
    most_chars: int | None = None
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies in force: for every call, and by scope and number of what they are bound to."""

    everyone: tuple[Policy, ...]
    bound: Mapping[tuple[str, int], Policy]

    def of(self, caller: "Caller", model: "PublicModel") -> tuple[Policy, ...]:
        """Those that apply to a call, each once."""
        owners = (("key", caller.key_id), ("user", caller.user_id), ("team", caller.team_id), ("model", model.id))
        found = {one.id: one for one in self.everyone}
        for scope, number in owners:
            if number is not None and (one := self.bound.get((scope, number))) is not None:
                found[one.id] = one
        return tuple(found.values())


Compiled = dict[tuple[int, int], Policy]


def of_rows(rows: "Iterable[PolicyRow]", known: Compiled) -> Policies | None:
    """The policies that are enabled; None where there are none. `known` keeps what was compiled before."""
    everyone, bound = [], {}
    for row in rows:
        key = (row.id, row.version)
        policy = known.get(key)
        if policy is None:
            for old in [old for old in known if old[0] == row.id]:
                del known[old]
            policy = known[key] = compiled(row)
        if row.is_for_all:
            everyone.append(policy)
        bound.update({(binding.scope, binding.scope_id): policy for binding in row.bindings})
    return Policies(tuple(everyone), bound) if everyone or bound else None


def compiled(row: "PolicyRow") -> Policy:
    """A stored policy, ready to be used; one that cannot be read lets nothing through where it looks."""
    try:
        return built(row.rules, row)
    except (BadPattern, LookupError, TypeError, ValueError) as exc:
        log.error("policy %s cannot be read: %s", row.uuid, type(exc).__name__)  # noqa: TRY400 - the class says enough
        return Policy(
            *(row.id, row.uuid, row.name, row.version),
            *(bool(row.is_dry_run), bool(row.on_requests), bool(row.on_answers)),
            actions={UNREADABLE: BLOCK},
        )


def built(rules: Mapping[str, Any], row: "PolicyRow") -> Policy:
    """The policy that these rules make.

    Raises:
        BadPattern: a regular expression cannot be used.
    """
    size, judges = rules.get("size") or {}, rules.get("judges", ())
    named = (*(rules.get("patterns") or ()), *(rules.get("words") or ()), *judges)
    actions = kinds_of(rules) | {one["name"]: one["action"] for one in named}
    return Policy(
        row.id,
        row.uuid,
        row.name,
        row.version,
        bool(row.is_dry_run),
        bool(row.on_requests),
        bool(row.on_answers),
        actions | ({SIZE: size["action"]} if size else {}),
        scanners_of(rules),
        tuple(
            Judge(one["name"], one["definition"], one["action"], one.get("model", ""))
            for one in judges
            if one["action"] != ALLOW
        ),
        size.get("chars"),
        bool(rules.get("is_open")),
    )


def scanners_of(rules: Mapping[str, Any]) -> dict[str, Scanner]:
    """What looks for the rules of each action that has some.

    Raises:
        BadPattern: a regular expression cannot be used, or all are too large together.
    """
    kinds = kinds_of(rules)
    patterns, words = (rules.get("patterns") or (), rules.get("words") or ())
    taken = {*kinds.values(), *(one["action"] for one in (*patterns, *words))}
    return {
        action: Scanner(
            kinds=tuple(name for name, chosen in kinds.items() if chosen == action),
            patterns=tuple((one["name"], one["definition"]) for one in patterns if one["action"] == action),
            words=tuple((one["name"], one["definition"]) for one in words if one["action"] == action),
        )
        for action in ORDER
        if action in taken
    }


def kinds_of(rules: Mapping[str, Any]) -> dict[str, str]:
    """The action of each kind of personal data; `all` stands for those that are not named."""
    given = dict(rules.get("kinds") or {})
    others = given.pop(ALL, ALLOW)
    return {name: others for name in KINDS if others != ALLOW} | given
