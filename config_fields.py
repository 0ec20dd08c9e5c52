"""What the table of settings in config.py is made of: the types of values, and how one setting is written down."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic.fields import FieldInfo

from utils import settings

Seconds = Annotated[float, BeforeValidator(settings.seconds), Field(ge=0)]
Commas = Annotated[tuple[str, ...], BeforeValidator(settings.commas)]
Role = Literal["user", "team_admin", "auditor", "admin"]
RolesOfGroups = Annotated[tuple[tuple[str, Role], ...], BeforeValidator(settings.pairs)]
Networks = Annotated[tuple[settings.Network, ...], BeforeValidator(settings.networks)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(settings.patterns)]
Days = Annotated[int, Field(ge=0, le=3650)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Balance = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(settings.none_if_empty)]
Share = Annotated[float, Field(ge=0, le=1)]
Statistics = Annotated[tuple[Literal["datadog", "statsd"], str, Port] | None, BeforeValidator(settings.statistics)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def setting(env: str, default: Any, doc: str, *, also: tuple[str, ...] = (), **extra: Any) -> Any:
    """One setting: variable name, default, meaning; `also` = other names, in falling precedence.

    Extra marks: group= starts a heading, secret=True masks it, later= names the feature that will use it.
    """
    return Field(
        default=default,
        validation_alias=AliasChoices(env, *also),
        description=doc,
        repr="secret" not in extra,  # a traceback must not show it
        json_schema_extra={"env": env, "also": list(also), **extra},
    )


def marks(field: FieldInfo) -> dict[str, Any]:
    """What `setting` noted of one setting: env, also, group, secret, later."""
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}
