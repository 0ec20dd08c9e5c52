"""Users as admins manage them by name: listed, made, changed, deleted. The panel does the same by forms.

Whoever is disabled, deleted or given a new password is signed out everywhere at once: browser sessions are rows that
every request asks for, tokens carry a number that is raised, and keys are looked up again, in all workers within two
seconds. An admin always remains.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Engine, Select, delete, func, select, update
from sqlalchemy.orm import Session

from models import ApiKey, CatalogVersion, Team, User, WebSession
from services import audit, fields, owners, passwords, removal
from services.accounts import ERASED, KEY_OWNER, SERVICE_ACCOUNT, Accounts, voided
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, FieldsInvalid, InvalidRequest, NotFound

LOCALES: Final = ("en", "pt_BR")
ROLES: Final = ("user", "team_admin", "auditor", "admin")
ERASED_ALREADY: Final = "This account was erased; it stays for the books only."
ADMINS_LOCK: Final = 7_640_002  # of Postgres; services/migrating.py has another
KEPT: Final = (SERVICE_ACCOUNT, KEY_OWNER)
MODELS: Final = fields.some(fields.text(fields.MAX_MODEL, is_required=True))


def role(value: Any) -> str:
    """One of ROLES."""
    if value not in ROLES:
        raise fields.Unfit(f"must be one of {', '.join(ROLES)}")
    return str(value)


NEW: Final[Mapping[str, fields.Parse]] = {
    "username": fields.text(fields.MAX_NAME, is_required=True),
    "is_admin": fields.flag,
    "role": role,
    "team": fields.text(fields.MAX_NAME),
    "allowed_models": MODELS,
}
CHANGES: Final[Mapping[str, fields.Parse]] = {
    "is_admin": fields.flag,
    "role": role,
    "is_active": fields.flag,
    "disabled_reason": fields.text(fields.MAX_NAME),
    "team": fields.text(fields.MAX_NAME),
    "allowed_models": MODELS,
}
COLUMNS: Final = ("role", "is_active", "disabled_reason", "allowed_models")  # stored as they were read
EMPTY: Final[Mapping[str, Any]] = {"disabled_reason": "", "team": "", "allowed_models": []}  # what null stands for


def given(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a body changes of a user. `allowed_models`: null or empty = all; `team`: null or empty = none.

    Raises:
        FieldsInvalid: members that cannot be taken.
    """
    found = fields.read(CHANGES, {name: EMPTY.get(name) if value is None else value for name, value in body.items()})
    if found.ignored:  # else whoever meant to lock somebody out might believe that it was done
        raise FieldsInvalid({name[: fields.MAX_NAME]: "cannot be changed here" for name in found.ignored})
    return found.values


def _with_role(values: dict[str, Any], current: str) -> dict[str, Any]:
    """The same with `is_admin`, which is short for a role, as that role; whoever is no admin stays what they are."""
    if "is_admin" not in values:
        return values
    is_admin = values.pop("is_admin")
    less = ROLES[0] if current == "admin" else current
    wanted = values.setdefault("role", "admin" if is_admin else less)
    if is_admin != (wanted == "admin"):
        raise FieldsInvalid({"is_admin": f"is not what the role `{wanted}` says"})
    return values


def listed(engine: Engine, *, skip: int = 0, limit: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """A part of the users by name, or all, in the short form, and how many there are.

    Of each the hint of its default key, else of its newest working one.
    """
    with Session(engine) as session:
        rows = session.execute(_hinted().order_by(User.username).offset(skip).limit(limit)).tuples().all()
        total = session.scalar(select(func.count()).select_from(User)) or 0
    return [short(user.username, hint, user.role) for user, hint, _team in rows], total


def all_shown(engine: Engine) -> list[dict[str, Any]]:
    """Every user by name as `shown` has one."""
    with Session(engine) as session:
        return [_shown(*row) for row in session.execute(_hinted().order_by(User.username)).tuples()]


def locale(value: Any) -> str:
    """One of LOCALES, as the standard for such names or we write it."""
    found = next((one for one in LOCALES if str(value).replace("-", "_").lower() == one.lower()), None)
    if found is None:
        raise fields.Unfit(f"must be one of {', '.join(str(tag(one)) for one in LOCALES)}")
    return found


def tag(locale: str | None) -> str | None:
    """The name of a language as the standard writes it."""
    return None if locale is None else locale.replace("_", "-")


def shown(engine: Engine, username: str) -> dict[str, Any]:
    """One user with all that admins may change.

    Raises:
        NotFound: there is none of that name.
    """
    with Session(engine) as session:
        return _view(session, username)


def hint_of(engine: Engine, user_id: int) -> str | None:
    """What may be shown of a user's key."""
    with Session(engine) as session:
        return session.scalar(select(_hint()).where(User.id == user_id))


def number_of(engine: Engine, username: str) -> int:
    """The number of a user.

    Raises:
        NotFound: there is none of that name.
    """
    with Session(engine) as session:
        found = session.scalar(select(User.id).where(User.username == _name(username)))
    if found is None:
        raise _unknown()
    return found


def short(username: str, hint: str | None, role: str) -> dict[str, Any]:
    """What lists and people themselves see."""
    return {"username": username, "api_key": hint, "is_admin": role == "admin"}


class People:
    """Changes users; every change is audited in its own transaction."""

    def __init__(self, engine: Engine, catalog: Catalog, accounts: Accounts) -> None:
        self._engine, self._catalog, self._accounts = engine, catalog, accounts

    def create(self, actor: audit.Actor, body: Mapping[str, Any]) -> str:
        """A new user who can sign in, without limits; returns the name.

        `is_admin` is short for the role `admin`.

        Raises:
            FieldsInvalid: members that are missing or wrong.
            InvalidRequest: a bad name, a bad password, or a name that is taken (code `user_exists`).
            NotFound: no such team.
        """
        values = _with_role(fields.read(NEW, body, ("username",)).values, ROLES[0])
        password = passwords.check_new(body.get("password"))
        wanted = values.get("role", ROLES[0])
        self._accounts.check_strength(wanted, password)
        columns: dict[str, Any] = {"allowed_models": values.get("allowed_models")}
        if team := values.get("team"):
            with Session(self._engine) as session:
                columns["team_id"] = owners.find(session, "team", team)
        try:
            self._accounts.create(values["username"], password, role=wanted, by=actor, **columns)
        except InvalidRequest as exc:
            if exc.code != "user_exists":
                raise
            raise InvalidRequest("User already exists.", param="username", code="user_exists") from exc
        return str(values["username"])

    def speak(self, actor: audit.Actor, user_id: int, locale: str | None) -> None:
        """Answer a user in a language from now on, or in the one of each request (None).

        Workers know it within a second: what they hold of callers is read again.
        """
        with Session(self._engine) as session, session.begin():
            row = session.get_one(User, user_id)
            if row.locale == locale:
                return
            details, row.locale = {"before": row.locale, "after": locale}, locale
            audit.note(session, actor, "language_change", "user", row.username, details)
        # On its own: everybody else takes this row after the end of the audit log, and nobody the other way round.
        with Session(self._engine) as session, session.begin():
            session.execute(update(CatalogVersion).values(version=CatalogVersion.version + 1))

    def change(self, actor: audit.Actor, username: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change what the body names: role or is_admin, is_active, disabled_reason, team, allowed_models.

        Raises:
            NotFound: no such user, or no such team.
            FieldsInvalid: members that cannot be taken.
            Conflict: it is oneself, an account of the gateway, the last admin, or was erased.
        """
        values = given(body)
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, username)
            check_not_erased(row)
            values = _with_role(values, row.role)
            if {"role", "is_active"} & values.keys():
                _check_other(actor, row)
            before, was_active = describe(session, row), row.is_active
            for name in COLUMNS:
                if name in values:
                    setattr(row, name, values[name])
            row.disabled_reason = None if row.is_active else row.disabled_reason or None
            if "team" in values:
                row.team_id = owners.find(session, "team", values["team"]) if values["team"] else None
            if was_active and not row.is_active:
                sign_out(session, row.id)
            session.flush()
            check_admin_left(session)
            details = audit.differences(before, describe(session, row))
            if details["after"]:
                audit.note(session, actor, "user_update", "user", row.id, details)
            return _view(session, row.username)

    def delete(self, actor: audit.Actor, username: str) -> None:
        """Remove a user with keys, sessions, budgets and limits; what was used stays in the books.

        Raises:
            NotFound: no such user, or somebody else was quicker.
            Conflict: see `change`.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, username)
            _check_other(actor, row)
            details = {"before": {"username": row.username, **describe(session, row)}}
            audit.note(session, actor, "user_delete", "user", row.id, details)
            session.flush()
            removal.user(session, row.id)
            check_admin_left(session)


def sign_out(session: Session, user_id: int) -> None:
    """End every browser session and void every token of a user, within the caller's transaction."""
    raised = update(User).where(User.id == user_id).values(**voided())
    session.execute(raised.execution_options(synchronize_session=False))
    session.execute(delete(WebSession).where(WebSession.user_id == user_id))


def check_admin_left(session: Session) -> None:
    """Whether somebody can still manage, after a change of users within the same transaction.

    Of two changes at once the second one waits here until it sees what the first one left.

    Raises:
        Conflict: nobody could.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer
        session.execute(select(func.pg_advisory_xact_lock(ADMINS_LOCK)))
    if not session.scalar(select(func.count(User.id)).where(User.role == "admin", User.is_active)):
        raise Conflict("This is the last admin; make another one first.", code="last_admin")


def check_not_erased(row: User) -> None:
    """Whether somebody is still behind the account.

    Raises:
        Conflict: it was erased, see services/erasure.py.
    """
    if row.username.startswith(ERASED):
        raise Conflict(ERASED_ALREADY)


def describe(session: Session, row: User) -> dict[str, Any]:
    """For the audit log."""
    team = session.scalar(select(Team.name).where(Team.id == row.team_id)) if row.team_id is not None else None
    return {name: getattr(row, name) for name in COLUMNS} | {"team": team}


def _view(session: Session, username: str) -> dict[str, Any]:
    found = session.execute(_hinted().where(User.username == _name(username))).first()
    if found is None:
        raise _unknown()
    return _shown(*found)


def _shown(user: User, hint: str | None, team: str | None) -> dict[str, Any]:
    return short(user.username, hint, user.role) | {
        "role": user.role,
        "is_active": user.is_active,
        "disabled_reason": user.disabled_reason,
        "team": team,
        "allowed_models": user.allowed_models,
        "created_at": user.created_at,
    }


def _hint() -> Any:
    working = select(ApiKey.hint).where(ApiKey.user_id == User.id, ApiKey.revoked_at.is_(None))
    order = ((ApiKey.kind == "default").desc(), ApiKey.id.desc())
    return working.order_by(*order).limit(1).correlate(User).scalar_subquery()


def _hinted() -> Select[Any]:
    return select(User, _hint(), Team.name).join(Team, Team.id == User.team_id, isouter=True)


def _locked(session: Session, username: str) -> User:
    """The user, whom nobody else changes until the end of the transaction."""
    lock = update(User).where(User.username == _name(username)).values(updated_at=User.updated_at).returning(User.id)
    number = session.execute(lock.execution_options(synchronize_session=False)).scalar()
    if number is None:
        raise _unknown()
    return session.get_one(User, number)


def _check_other(actor: audit.Actor, row: User) -> None:
    if row.username in KEPT:
        raise Conflict(f"`{row.username}` is an account of the gateway itself.")
    if row.id == actor.user_id:
        raise Conflict("You cannot do this to your own account; another admin can.")


def _name(username: str) -> str:
    """The name as it may be looked for; Postgres refuses to look for a NUL."""
    return username if username.isprintable() else ""


def _unknown() -> NotFound:
    return NotFound("User not found", param="username", code="user_not_found")
