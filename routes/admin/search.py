"""The search of the top bar: a page, and suggestions for the field while somebody types."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Final

from flask import Response, current_app, jsonify, redirect, request, url_for

from routes.admin.forms import KIND_NAMES
from routes.admin.guard import SecureView, expose
from routes.admin.texts import gettext, lazy_gettext
from services import search
from utils.extensions import db, gateway

_ = lazy_gettext

ON_A_PAGE: Final = 20  # of a kind
SUGGESTED: Final = 5
SHORTEST: Final = 2  # characters before anything is suggested; the page searches for one too


@dataclass(frozen=True, slots=True)
class Kind:
    """How things of a kind are shown: what they are called, their icon, and where their pages and list are."""

    name: Any
    icon: str
    endpoint: str


KINDS: Final = {
    "page": Kind(_("Pages"), "window", ""),
    "call": Kind(_("Calls"), "activity", "usage"),
    "user": Kind(_("Users"), "people", "users"),
    "team": Kind(_("Teams"), "people-fill", "teams"),
    "key": Kind(_("API keys"), "key", "keys"),
    "model": Kind(_("Models"), "cpu", "models"),
    "provider": Kind(_("Providers"), "hdd-network", "providers"),
    "config": Kind(_("Configuration"), "sliders", "configs"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A line of the answer."""

    kind: str
    title: str
    hint: str
    url: str


class Search(SecureView):
    """Everything that has a name."""

    icon: ClassVar[str] = "search"
    is_listed: ClassVar[bool] = False  # the top bar leads here

    @expose("/")
    def index(self) -> Any:
        """What was found, by kind. The id of a call leads straight to it."""
        text = search.cleaned(request.args.get("q", ""))
        number = search.call_of(db.session(), text)
        if number is not None:
            return redirect(url_for("usage.details_view", id=number))
        found = groupby(_found(text, ON_A_PAGE), lambda one: one.kind)
        groups = [(KINDS[kind], list(lines)) for kind, lines in found]
        return self.render("admin/search.html", text=text, groups=groups, newest=search.NEWEST, most=ON_A_PAGE)

    @expose("/suggest/")
    def suggest(self) -> Response:
        """The best of it, as JSON: `{"found": [{"kind", "title", "hint", "url"}, …]}`."""
        text = search.cleaned(request.args.get("q", ""))
        found = _found(text, SUGGESTED) if len(text) >= SHORTEST else []
        lines = [
            {"kind": str(KINDS[one.kind].name), "title": one.title, "hint": one.hint, "url": one.url} for one in found
        ]
        return jsonify(found=lines)


def _found(text: str, most: int) -> list[Found]:
    hits = search.find(gateway().engine, text, most)
    return _pages(text)[:most] + [_line(hit) for hit in hits]


def _line(hit: search.Hit) -> Found:
    hints = [str(KIND_NAMES.get(hint, hint)) for hint in hit.hints] if hit.kind == "provider" else hit.hints
    url = url_for(f"{KINDS[hit.kind].endpoint}.details_view", id=hit.id)
    return Found(hit.kind, hit.title, " · ".join(hints), url)


def _pages(text: str) -> list[Found]:
    """The pages of the panel whose name or group has the text."""
    wanted, found = text.casefold(), []
    ui: Any = current_app.jinja_env.globals["ui"]
    for group, views in ui.nav() if text else ():
        for view in views:
            name, hint = gettext(view.name), gettext(group) if group else ""
            if wanted in name.casefold():
                url = url_for(f"{view.endpoint}.{view._default_view}")  # noqa: SLF001 - Flask-Admin has no other name for it
                found.append(Found("page", name, hint, url))
    return sorted(found, key=lambda one: not one.title.casefold().startswith(wanted))
