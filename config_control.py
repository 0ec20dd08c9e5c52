"""The settings of what the gateway does with calls besides relaying them; config.py has all others."""

from pydantic import BaseModel


class ControlSettings(BaseModel):
    """A table, as in config.py."""
