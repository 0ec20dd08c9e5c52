"""Operations of policies, in the form of the gateway that the key management API comes from."""

from typing import Any, Final

from routes.openapi.operations import ADMIN, NOTHING, Operation, json, query
from routes.openapi.shapes import Schema, closed, either, flag, listed, one_of, opened, ref, text, whole
from services import fields, owners, policyfields
from services.guards import rules
from services.policies.kinds import KINDS

TAG: Final = "Policies"
_name: Final = text(minLength=1, maxLength=fields.MAX_NAME)
_action: Final = one_of(*rules.ACTIONS)
_judged: Final = one_of(*policyfields.UNREDACTED)
_places: Final = listed(one_of(*policyfields.PLACES), "What it looks at.", minItems=1)
_ends: Final = listed(_name, "Keys by UUID, the others by name; each has one policy at most.")
_failure: Final = one_of(*policyfields.FAILURES, about="What becomes of a call about which no model can be asked.")


def _config(about: str, action: Schema, most: int, **more: Schema) -> Schema:
    """A list of rules in an object."""
    rule = closed(
        {"definition": text(minLength=1, maxLength=most), "action": action}, {"name": text(maxLength=255), **more}
    )
    return closed({}, {"rules": listed(rule, about, maxItems=policyfields.MAX_RULES)})


_settable: Final[dict[str, Schema]] = {
    "tags": listed(_name),
    "config": closed({}, {"rules": closed({}, dict.fromkeys((*KINDS, rules.ALL), _action))}),
    "regexConfig": _config("Regular expressions, in RE2's syntax.", _action, policyfields.MAX_DEFINITION),
    "wordConfig": _config("Words and phrases, in any case.", _action, policyfields.MAX_DEFINITION),
    "customConfig": _config(
        "What a model is asked about the texts.", _judged, policyfields.MAX_QUESTION, model=text(maxLength=200)
    ),
    "sizeConfig": closed(
        {}, {"maxCharacters": whole("0 = no limit.", minimum=0, maximum=policyfields.MOST_CHARS), "action": _judged}
    ),
    "onJudgeFailure": _failure,
    "appliesTo": _places,
    "enabled": flag(),
    "dryRun": flag("It decides and notes, and changes nothing."),
    "everyone": flag("It applies to every call."),
    "boundTo": closed({}, dict.fromkeys((f"{scope}s" for scope in owners.SCOPES), _ends)),
    "version": whole("The version that was changed; another one is refused (409).", minimum=0),
}
_shown: Final[dict[str, Schema]] = {
    **_settable,
    "name": _name,
    "sizeConfig": either(closed({}), _settable["sizeConfig"]),
    "id": text(),
    "appliesTo": listed(one_of(*policyfields.PLACES)),
    "createdAt": whole("Unix seconds."),
    "updatedAt": whole("Unix seconds."),
    "version": whole("Raised with every change."),
}
SCHEMAS: Final[dict[str, Any]] = {
    "Policy": closed(_shown),
    "NewPolicy": opened({"name": _name}, _settable),
    "PolicyChange": opened({}, {"name": _name, **_settable}),
}
NEW: Final = {
    "name": "no cards",
    "tags": ["support"],
    "config": {"rules": {"credit_debit_number": "block", "email": "allow_but_redact"}},
    "regexConfig": {"rules": [{"definition": "PRJ-[0-9]{4}", "action": "allow_but_warn"}]},
}
_IGNORED: Final = {"x-gateway-ignored-members": "Members of the body that mean nothing here."}

OPERATIONS: Final[dict[str, Operation]] = {
    "policies.policies": Operation(
        TAG, ADMIN, json(listed(ref("Policy"))), query=(query("tags", listed(text()), "Found are those with all."),)
    ),
    "policies.create": Operation(TAG, ADMIN, json(ref("Policy")), json(ref("NewPolicy"), NEW), headers=_IGNORED),
    "policies.policy": Operation(TAG, ADMIN, json(ref("Policy")), refuses=("404",)),
    "policies.update": Operation(
        TAG,
        ADMIN,
        json(ref("Policy")),
        json(ref("PolicyChange"), {"dryRun": True}),
        refuses=("404", "409"),
        headers=_IGNORED,
    ),
    "policies.delete": Operation(TAG, ADMIN, NOTHING, refuses=("404",)),
}
