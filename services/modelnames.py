"""Which names a model may have and name: two models never answer to one, and a fallback is another model."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Model
from services.errors import InvalidRequest

Names = Mapping[str, Collection[str]]  # of every model: its aliases
LONGEST: Final = 200  # characters


def known(session: Session) -> Names:
    """The models there are."""
    return {name: set(aliases or ()) for name, aliases in session.execute(select(Model.name, Model.aliases))}


def check_name(names: Names, name: str, before: str | None) -> None:
    """Whether a model may be called so; `before`: how it is called now, None = it is new.

    Raises:
        InvalidRequest: another one is called so, or answers to it.
    """
    if name == before:
        return
    if name in names:
        raise InvalidRequest("There is a model of that name already.", param="name")
    if any(name in aliases for other, aliases in names.items() if other != before):
        raise InvalidRequest("Another model has this name as an alias; take it from there first.", param="name")


def check_aliases(names: Names, name: str, given: Iterable[str]) -> None:
    """Whether the model may answer to these too.

    Raises:
        InvalidRequest: one cannot be, or somebody has it.
    """
    others = {other: aliases for other, aliases in names.items() if other != name}
    taken = {name, *others, *(alias for aliases in others.values() for alias in aliases)}
    for alias in given:
        if len(alias) > LONGEST or any(char.isspace() for char in alias):
            raise InvalidRequest("An alias has at most 200 characters and no spaces.", param="aliases")
        if alias in taken:
            raise InvalidRequest("There is a model of that name already.", param="aliases")


def check_fallbacks(names: Names, name: str | None, given: Iterable[str], param: str) -> None:
    """Whether calls of the model may go on to these.

    Raises:
        InvalidRequest: one is no model, or this one.
    """
    if any(one not in names or one == name for one in given):
        raise InvalidRequest("A fallback must be the name of another model.", param=param)
