"""Rows that follow a source outside the panel: they are shown as such, with the reason, and change there."""

from routes.admin.texts import gettext


def source_of(managed_by: str) -> str | None:
    """Why a row that is managed elsewhere cannot be changed here; None = it can."""
    if managed_by == "file":
        return gettext("This comes from the configuration file; change it there.")
    if managed_by == "environment":
        return gettext("This comes from the environment of the gateway; change it there.")
    return None
