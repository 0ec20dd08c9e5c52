"""What is done to the secret of an API key: showing it once, replacing it, voiding it, and letting it work again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flask import request
from flask import session as browser
from sqlalchemy import delete, select

from models import ApiKey, RetiredSecret
from routes.admin.guard import actor, expose, go
from routes.admin.keyforms import Revocation, Rotation
from routes.admin.tables import Table
from routes.admin.texts import N_, gettext
from services import abilities, audit
from services.errors import Conflict, InvalidRequest
from services.keys import IssuedKey
from services.types import PublicModel
from utils.extensions import db, gateway

NEW_KEY: Final = "new_key"  # in the cookie, sealed, from making a secret to showing it
MARK_CHARS: Final = 12  # of a retired secret's digest, to name it by


class SecretPages(Table):
    """The pages about a key's secret."""

    def show_once(self, issued: IssuedKey) -> Any:
        """Go to the page that shows a new secret."""
        browser[NEW_KEY] = gateway().sealer.seal(issued.secret).decode()
        return go(".created_view", id=issued.id)

    @expose("/created/")
    def created_view(self) -> Any:
        """A new secret, once: reloading shows that it is gone, and makes no second one."""
        row, sealed = self.row(), browser.pop(NEW_KEY, "")
        secret = gateway().sealer.open(sealed.encode()) if sealed else ""
        if not gateway().keys.is_of(secret, row):
            return go(".details_view", id=row.id)
        model, place = first_model(row), base_url()
        return self.render(
            "admin/keys/created.html",
            row=row,
            secret=secret,
            model=model or "MODEL",
            can_try=model is not None and place == request.host_url.rstrip("/"),
            base_url=place,
            retired=retired_of(row),
        )

    @expose("/rotate/", methods=("GET", "POST"))
    def rotate_view(self) -> Any:
        """Asks for how long the secret goes on working, then replaces it."""
        row = self.row()
        reason = self.why_fixed(row)
        if request.method == "POST":
            self.refuse(reason)
        form, seen = Rotation(self.given()), self.fingerprint(row)
        return self.answer_form(
            form, lambda: self._rotate(form, row), "admin/keys/rotate.html", row=row, why_kept=reason, seen=seen
        )

    def _rotate(self, form: Rotation, row: ApiKey) -> Any:
        if request.form.get("seen") != self.fingerprint(row):
            raise InvalidRequest(N_("Somebody else changed this meanwhile. Please look again."))
        before = self.describe(row)
        issued = gateway().keys.rotate(db.session(), row, form.time())
        self.store("key_rotate", row, before, grace_hours=form.grace.data)
        return self.show_once(issued)

    @expose("/end/", methods=("GET", "POST"))
    def end_view(self) -> Any:
        """Asks, then ends the time of a retired secret."""
        row, mark = self.row(), request.values.get("secret", "")[:MARK_CHARS]
        found = [secret for secret in retired_of(row) if secret.digest.startswith(mark)] if mark else []
        reason = None if found else gettext("This secret does not open the key any more.")
        if request.method == "GET":
            return self.render("admin/keys/end.html", row=row, why_kept=reason, mark=mark)
        self.refuse(reason)
        ends = [secret.digest for secret in found]
        db.session.execute(delete(RetiredSecret).where(RetiredSecret.digest.in_(ends)))
        said = gettext("The former secret of %(name)s has ended.", name=row.name)
        self.store("key_secret_end", row, self.describe(row), said, before_its_time="yes")
        return go(".details_view", id=row.id)

    @expose("/revoke/", methods=("GET", "POST"))
    def revoke_view(self) -> Any:
        """Asks for a reason, then voids the key."""
        row = self.row()
        reason = self.why_fixed(row)
        if request.method == "POST":
            self.refuse(reason)
        form = Revocation(self.given())
        return self.answer_form(
            form, lambda: self._revoke(form, row), "admin/keys/revoke.html", row=row, why_kept=reason
        )

    def _revoke(self, form: Revocation, row: ApiKey) -> Any:
        before = self.describe(row)
        gateway().keys.revoke(db.session(), row.id, form.reason.data)
        db.session.refresh(row)
        self.store("key_revoke", row, before, gettext("%(name)s was revoked.", name=row.name))
        return go(".details_view", id=row.id)

    def revoke_one(self, row: ApiKey, reason: str) -> None:
        """Void one of many."""
        before = self.describe(row)
        gateway().keys.revoke(db.session(), row.id, reason)
        self._note("key_revoke", row, before)

    def undo_lift(self, row: ApiKey, _before: Mapping[str, Any]) -> None:
        """Let a key work again that was just revoked.

        Raises:
            Conflict: it cannot be let.
        """
        if reason := self.why_not_lifted(row):
            raise Conflict(reason)
        before = self.describe(row)
        gateway().keys.lift(db.session(), row.id)
        self._note("key_lift", row, before)

    def _note(self, action: str, row: ApiKey, before: Mapping[str, Any]) -> None:
        db.session.refresh(row)
        details = audit.differences(before, self.describe(row))
        audit.note(db.session(), actor(), action, self.resource, row.id, details)

    @expose("/lift/", methods=("GET", "POST"))
    def lift_view(self) -> Any:
        """Asks, then lets a revoked key work again."""
        row = self.row()
        reason = self.why_not_lifted(row)
        if request.method == "GET":
            return self.render("admin/keys/lift.html", row=row, why_kept=reason)
        self.refuse(reason)
        before = self.describe(row)
        gateway().keys.lift(db.session(), row.id)
        db.session.refresh(row)
        self.store("key_lift", row, before, gettext("%(name)s works again.", name=row.name))
        return go(".details_view", id=row.id)

    def why_not_lifted(self, row: ApiKey) -> str | None:
        """Why there is nothing to lift; None = the key can be let work again."""
        if row.revoked_at is None:
            return gettext("This key is not revoked.")
        other = select(ApiKey.id).where(
            ApiKey.user_id == row.user_id, ApiKey.kind == "default", ApiKey.revoked_at.is_(None)
        )
        if row.kind == "environment":
            return gettext("This key comes from the setting API_AUTH_TOKENS; change it there.")
        if row.kind == "default" and db.session.scalar(other) is not None:
            return gettext("Its user has another default key by now.")
        return None


def retired_of(row: ApiKey) -> list[RetiredSecret]:
    """The secrets that the key had before and that still open it, the one that ends first before."""
    query = select(RetiredSecret).where(RetiredSecret.key_id == row.id, RetiredSecret.expires_at > datetime.now(UTC))
    return list(db.session.scalars(query.order_by(RetiredSecret.expires_at)))


def base_url() -> str:
    """Where callers send their requests."""
    return (gateway().config.public_url or request.host_url).rstrip("/")


def first_model(row: ApiKey | None) -> str | None:
    """A model for the examples, that the key (None: some key) may use: one of a real provider before an echo."""
    models = {name: model for name, model in gateway().catalog.snapshot().models.items() if model.deployments}
    layers: list[Any] = [] if row is None else [row, row.user, row.user.team]
    lists = [layer.allowed_models for layer in layers if layer is not None and layer.allowed_models is not None]
    return example({name: model for name, model in models.items() if all(name in names for names in lists)})


def example(models: Mapping[str, PublicModel]) -> str | None:
    """That one of models which can be called that examples name."""
    return min(models, key=lambda name: _rank(models[name]), default=None)


def _rank(model: PublicModel) -> tuple[bool, bool, bool, bool]:
    """The smaller, the likelier that a chat with the model works and says something."""
    first = model.deployments[0]
    is_built_in = first.upstream.kind == abilities.BUILT_IN
    return is_built_in, not abilities.is_chat(first), first.price is None, model.name != abilities.BUILT_IN
