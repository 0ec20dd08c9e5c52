"""The settings of what the gateway does with calls besides relaying them; config.py has all others."""

from typing import Annotated

from pydantic import BaseModel, Field

from config_fields import Seconds
from config_fields import setting as _


class ControlSettings(BaseModel):
    """A table, as in config.py."""

    # fmt: off
    policy_judge_model: str = _("POLICY_JUDGE_MODEL", "", "The model that is asked where a rule of a policy is judged by a model and names none ([policies.md](policies.md)).", group="Policies")
    policy_judge_timeout_s: Annotated[Seconds, Field(ge=1, le=300)] = _("POLICY_JUDGE_TIMEOUT", 10.0, "How long it may take to answer; then the rule fails as its policy says.")
    # fmt: on
