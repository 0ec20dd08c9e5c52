"""Every page of the panel in Portuguese: what reads the same as in English is a name, or was forgotten."""

import re
from html.parser import HTMLParser

import pytest
from flask import Flask

from services.providers.kinds import KINDS
from services.providers.vendors import VENDORS
from tests.admin.conftest import Browser, add_user
from tests.admin.pages import furnish

PLANTED = "Zqx"  # whatever people name
SHOWN = ("title", "aria-label", "placeholder", "alt", "data-copied", "data-label")
UNSEEN = ("script", "style", "code", "pre", "kbd", "datalist", "svg", "time")
WORD = re.compile(r"[A-Za-z]{3,}(?<!UTC)")
CODE = re.compile(
    r"invitation inv-\w+…|[a-z0-9]+(?:[_.-][a-z0-9.]+)+|[A-Z][A-Z_]+|(POST )?/[\w/.-]+|https?:.*"
)  # as programs write them
SAME = frozenset(  # the same word in both languages, a name, or a code that the log and the API have as well
    {"Prompt", "Prompts", "greeting"}
    | {
        "0 tokens",
        "404",
        "admin",
        "Auditor",
        "beatriz",
        "chat",
        "drained",
        "echo",
        "English",
        "first key",
        "JSON.",
        "Menu",
        "olivia",
    }
    | {
        "Português",
        "recovered",
        "refused",
        "role",
        "Status",
        "system",
        "Tags",
        "Tokens",
        "Tokens, 24 h",
        "Tollhouse",
        "Total",
    }
    | {"user admin"}
    | {"curl", "default", "E-mail", "Node", "Python", "Webhook"}
    | {"role, team, expires_at", "tests"}
)


class Words(HTMLParser):
    """The texts of a page that people read or hear."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Attributes that are shown or spoken; the inside of some elements is nobody's text."""
        if tag in UNSEEN:
            self._hidden.append(tag)
        self.found |= {value.strip() for name, value in attrs if name in SHOWN and value}

    def handle_endtag(self, tag: str) -> None:
        """See HTMLParser."""
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        if not self._hidden:
            self.found.add(" ".join(data.split()))


def is_same(text: str) -> bool:
    """Whether it reads the same in every language."""
    products = {kind.name for kind in KINDS.values()} | {
        one.label for one in VENDORS.values() if "dialect" not in one.label
    }
    is_key = text.startswith("sk-th-")  # the hint of a key, with its owner's name
    return text in SAME | (products - {"Custom"}) or PLANTED in text or is_key or CODE.fullmatch(text) is not None


def words_of(page: str) -> set[str]:
    reader = Words()
    reader.feed(page)
    return {text for text in reader.found if WORD.search(text)}


@pytest.fixture
def browsers(panel_app: Flask) -> tuple[Browser, Browser]:
    for name, locale in (("olivia", "en"), ("beatriz", "pt_BR")):
        add_user(panel_app, name, role="admin", locale=locale)
    return Browser(panel_app, "olivia"), Browser(panel_app, "beatriz")


def test_no_page_keeps_english_words(panel_app: Flask, browsers: tuple[Browser, Browser]) -> None:
    english, portuguese = browsers
    left: dict[str, set[str]] = {}
    paths = furnish(panel_app, PLANTED)
    assert len(paths) > 30
    paths.remove("/admin/login")
    for path in [*paths, "/admin/password", "/admin/nothing"]:
        both = words_of(english.get(path).text) & words_of(portuguese.get(path).text)
        if forgotten := {text for text in both if not is_same(text.removesuffix(" · Tollhouse"))}:
            left[path] = forgotten
    found = {text: sorted(path for path in left if text in left[path])[:2] for text in set().union(*left.values())}
    assert not found, "\n".join(f"{text!r} {where}" for text, where in sorted(found.items()))


def test_strangers_read_no_english_either(panel_app: Flask) -> None:
    client = panel_app.test_client()
    english, portuguese = (
        words_of(client.get("/admin/login", headers={"accept-language": tag}).text) for tag in ("en", "pt")
    )
    assert {text for text in english & portuguese if not is_same(text)} == set()


def test_a_forgotten_text_would_be_found() -> None:
    page = "<title>Users · Tollhouse</title><p title='Press here'>Nothing yet <code>curl</code></p><script>one</script>"
    assert words_of(page) == {"Users · Tollhouse", "Press here", "Nothing yet"}
    assert not is_same("Nothing yet")


def test_numbers_are_written_as_the_reader_does(panel_app: Flask, browsers: tuple[Browser, Browser]) -> None:
    from routes.admin import show

    with panel_app.test_request_context(headers={"accept-language": "pt-BR"}):
        assert (show.num(1234567), show.percent(0.055), show.ms(1500)) == ("1.234.567", "5,5%", "1,50 s")
    with panel_app.test_request_context(headers={"accept-language": "en"}):
        assert (show.num(1234567), show.percent(0.055), show.ms(1500)) == ("1,234,567", "5.5%", "1.50 s")
