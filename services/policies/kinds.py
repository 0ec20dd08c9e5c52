"""All that can be found by name, from the general to the specific: of two as long, the first names the finding."""

from collections.abc import Mapping
from typing import Final

from services.policies.kind import Kind
from services.policies.kinds_contact import CONTACT
from services.policies.kinds_payment import BANK, PAYMENT

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (*PAYMENT, *BANK, *CONTACT)}
GROUPS: Final = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
