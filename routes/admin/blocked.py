"""Why was it blocked? Refused calls, each with its rule and what mends it; and what would happen now."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import request, url_for
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from models import ApiKey, Refusal, UsageRecord
from routes.admin.filters import SPAN, key_named, names_of_rows, number_named, since_of
from routes.admin.guard import expose
from routes.admin.mending import Mending
from routes.admin.owned import number_of
from routes.admin.tables import Choice
from routes.admin.texts import gettext, lazy_gettext
from routes.admin.verdicts import KIND_NAMES, Asked, layer_of, span_of, verdict_of
from services import counting, refusals, rehearsal, reports
from services.dialects import OPENAI
from services.errors import GatewayError
from services.types import Call
from utils import jsonx
from utils.extensions import db, gateway

_ = lazy_gettext


class Blocked(Mending):
    """The refusals."""

    model_class = Refusal
    icon, singular, resource = "shield-exclamation", "Refused call", "refusal"
    column_list = ("created_at", "kind", "model", "user", "message", "times")
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "kind": _("Refused by"),
        "model": _("Model"),
        "user": _("User and key"),
        "message": _("What the caller read"),
        "times": _("Times"),
    }
    exported = (
        *("id", "request_id", "created_at", "user", "key", "team_id", "model", "kind", "rule", "status", "code"),
        *("message", "details", "times"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {"user": ("user", "key", "team_id")}
    list_template = "admin/blocked/list.html"
    details_template = "admin/blocked/why.html"
    texts = ("user", "key", "model")
    choices = (SPAN, Choice("kind", _("Refused by"), list(KIND_NAMES.items())))

    def walk(self) -> reports.Walk:
        """See Log."""
        wanted = {
            "user_id": number_named("user", self.argument("user")),
            "key_id": key_named(self.argument("key")),
            "model": self.argument("model") or None,
            "kind": self.chosen("kind") or None,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return reports.refusal_walk(given, since_of(self.chosen("span")))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose calls they were."""
        return {"names": _names(rows), "kinds": KIND_NAMES}

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        names = extras["names"]
        key = names.keys[row.key_id][1] if row.key_id in names.keys else ""
        return {"user": names.users.get(row.user_id, row.user_id and f"#{row.user_id}"), "key": key}

    @expose("/details/")
    def details_view(self) -> Any:
        """Why one call was refused."""
        return self._explained(self.row())

    @expose("/why/")
    def why_view(self) -> Any:
        """The same by the id of the request, as its answer had it; of other calls, what became of them."""
        given = request.args.get("request", "").strip()
        found = refusals.find(gateway().engine, given) if given else None
        if found is not None:
            return self._explained(found)
        call = None
        if given.isprintable() and 0 < len(given) <= refusals.LONGEST_ID:
            call = db.session.query(UsageRecord).filter_by(request_id=given).first()
        names = _names([call] if call is not None else [])
        return self.render("admin/blocked/unknown.html", given=given[: refusals.LONGEST_ID * 2], call=call, names=names)

    @expose("/now/")
    def now_view(self) -> Any:
        """What would become of a call of a key to a model now; nothing is asked, held or counted."""
        key, model = self.argument("key"), self.argument("model")
        keys = _keys_of(key) if key else []
        row = keys[0] if len(keys) == 1 else None
        if row is None or not model:
            found = {"row": row, "keys": keys, "most": MOST_KEYS}
            return self.render("admin/blocked/now.html", key=key, model=model, answer=None, **found, **_NOTHING)
        here, problem = gateway(), None
        here.catalog.refresh()
        try:
            answer = rehearsal.of_key(here.keys, _explain, row.digest, model)
        except GatewayError as exc:
            answer, problem = rehearsal.Answer("chat", exc), str(exc)
        back = url_for(".now_view", key=row.id, model=model)
        verdict = verdict_of(_of_error(answer.refusal, row, model), back) if answer.refusal is not None else None
        shown = {"verdict": verdict, "layer": layer_of(verdict) if verdict else "", "problem": problem}
        return self.render("admin/blocked/now.html", key=key, model=model, row=row, answer=answer, **shown, **_WORDS)

    def _explained(self, row: Any) -> Any:
        details = jsonx.loads(row.details) if row.details else {}
        whose = (row.user_id, row.key_id, row.team_id)
        asked = Asked(row.kind, row.rule or "", details, row.model, *whose, row.message, row.status, row.code)
        verdict = verdict_of(asked, url_for(".details_view", id=row.id))
        values = {"verdict": verdict, "layer": layer_of(verdict), "names": _names([row]), "kinds": KIND_NAMES}
        return self.render(self.details_template, row=row, **values)

    def title(self, row: Any) -> str:
        """See Table."""
        return gettext("Refused call")


MOST_KEYS: Final = 50  # of one name that are listed
_WORDS: Mapping[str, Any] = {"span_of": span_of, "used_of": counting.used}
_NOTHING: Mapping[str, Any] = {"verdict": None, "layer": "", "problem": None, **_WORDS}


def _keys_of(given: str) -> list[ApiKey]:
    """The key of that number, UUID or hint, or else those of that name or that share that hint, working ones first."""
    number = number_of("key", given)
    if number is not None:
        return list(filter(None, [db.session.get(ApiKey, number)]))
    query = select(ApiKey).where((ApiKey.name == given) | (ApiKey.hint == given)).options(joinedload(ApiKey.user))
    return list(db.session.scalars(query.order_by(ApiKey.revoked_at.is_not(None), ApiKey.id).limit(MOST_KEYS)))


def _explain(call: Call) -> Any:
    return gateway().pipeline.explain(call, OPENAI)


def _of_error(exc: GatewayError, row: ApiKey, model: str) -> Asked:
    """A refusal that would happen, as if it had."""
    whose = (row.user_id, row.id, row.user.team_id)
    kind = refusals.kind_of(exc)
    return Asked(kind, exc.rule, exc.details, model, *whose, str(exc), exc.status, exc.code)


def _names(rows: list[Any]) -> reports.Names:
    return names_of_rows(gateway().engine, [row for row in rows if row.user_id is not None])
