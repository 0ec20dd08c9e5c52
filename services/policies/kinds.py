"""All that can be found by name, from the specific to the general: of two as long, the first names the finding."""

from collections.abc import Mapping
from typing import Final

from services.policies.kind import Kind
from services.policies.kinds_contact import CONTACT
from services.policies.kinds_national import NATIONAL
from services.policies.kinds_payment import BANK, PAYMENT
from services.policies.kinds_personal import PERSONAL
from services.policies.kinds_secrets import SECRETS
from services.policies.kinds_technical import TECHNICAL

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind for kind in (*SECRETS, *NATIONAL, *PAYMENT, *BANK, *TECHNICAL, *CONTACT, *PERSONAL)
}
GROUPS: Final = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
