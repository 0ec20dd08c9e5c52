"""Which limits apply to a request: those of its caller, its model and its client address, and those of the settings."""

from dataclasses import replace

from services import counting
from services.catalog import Catalog
from services.throttle import network_of
from services.types import Caller, LimitRef, PublicModel


def of_settings(per_minute: int | None, per_window: int | None, window_s: int) -> tuple[LimitRef, ...]:
    """The limits that the settings give to each client address and to each user."""
    found = []
    if per_minute is not None:
        found.append(LimitRef("minute/", "address", counting.REQUESTS, per_minute, "minute"))
    if per_window is not None:
        found.append(LimitRef("window/", "user", counting.REQUESTS, per_window, seconds=window_s))
    return tuple(found)


class Layers:
    """See the module."""

    def __init__(self, catalog: Catalog, everywhere: tuple[LimitRef, ...]) -> None:
        self._catalog, self.everywhere = catalog, everywhere  # those that the settings give

    def of(self, caller: Caller, address: str, model: PublicModel | None = None) -> tuple[LimitRef, ...]:
        """All that apply; each has a counter of its own, and the strictest answers."""
        shared = (*self.everywhere, *self._catalog.snapshot().address_limits)
        if not shared:
            return (*caller.limits, *(model.limits if model is not None else ()))
        names = {"address": network_of(address), "user": str(caller.user_id)}
        completed = [replace(limit, subject=limit.subject + names[limit.scope]) for limit in shared]
        return (*caller.limits, *(model.limits if model is not None else ()), *completed)
