"""What the gateway itself did to a call besides relaying it; stored with its usage."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

ALLOWED: Final = "allowed"  # what the policies of a call came to, see Marks.action
WARNED: Final = "warned"
REDACTED: Final = "redacted"
BLOCKED: Final = "blocked"
DRY: Final = {WARNED: "dry_warn", REDACTED: "dry_redact", BLOCKED: "dry_block"}  # of a policy that is only tried
STRENGTH: Final = (ALLOWED, *DRY.values(), WARNED, REDACTED, BLOCKED)  # by rising strength


@dataclass(slots=True)
class Marks:
    """None = it was not done."""

    path: str | None = None  # that was called, without the query
    route_id: str | None = None  # UUID of the route that it was called by
    action: str | None = None  # of the policies that applied: the strongest
    policy_id: int | None = None  # … whose it was
    saved_nanousd: int | None = None  # what the call would have cost, had its answer not been kept from an earlier one
    prompt_version_id: int | None = None  # of the stored prompt that it was made from
    batch_id: int | None = None  # that it is a line of

    @property
    def values(self) -> tuple[Any, ...]:
        """All of them in their order; every call asks, and the module `dataclasses` takes forty times as long."""
        found: tuple[Any, ...] = _VALUES(self)
        return found

    def copy(self) -> "Marks":
        """The same, apart."""
        return Marks(*self.values)

    @property
    def told(self) -> dict[str, Any]:
        """Those that say something, by name."""
        return {name: value for name, value in zip(_NAMES, self.values, strict=True) if value is not None}


_NAMES: Final = tuple(Marks.__dataclass_fields__)
_VALUES: Final = attrgetter(*_NAMES)
