"""Markdown in a real browser: hostile texts run nothing and stay quick; a text that grows ends as if it came whole."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from tests.admin.conftest import Browser
from tests.admin.test_browser import PAYLOADS, WATCH

NESTED = "\n".join("  " * depth + f"- level {depth}" for depth in range(1000))
LINKS = (
    "[a](javascript:window.__xss=1) [b](JaVaScRiPt:window.__xss=1) [c](\tjavascript:window.__xss=1) "
    "[d](data:text/html,<script>window.__xss=1</script>) [e](vbscript:x) [f](//evil.test) <javascript:window.__xss=1> "
    "![g](javascript:window.__xss=1) [h](java\nscript:window.__xss=1) [i](file:///etc/passwd) [j](/admin/logout)"
)
FLOODS = {
    "stars": "*" * 100_000,
    "pairs": "*a" * 50_000,
    "strong": "**a " * 25_000,
    "brackets": "[" * 100_000,
    "links": "[](" * 33_000,
    "ticks": "".join("`" * (1 + place % 300) + " " for place in range(700)),
    "one tick": "` " * 50_000,
    "angles": "<" * 100_000,
    "addresses": "http://" * 14_000,
    "heading": "# a" + " " * 100_000 + "b",
    "marks": "#" * 100_000,
    "spaces": " " * 100_000 + "x",
    "fence": "```" + " " * 100_000 + "`",
    "row": "a|b\n" + " " * 50_000 + "-x" + "|" * 50_000,
    "cells": "a|b\n-|-\n" + "|" * 100_000,
    "quotes": ">" * 100_000,
    "rules": "- " * 50_000 + "x",
    "lists": NESTED,
    "separators": "x\u2028" * 50_000,
    "escapes": "\\" * 100_000,
}
SAMPLE = """# One
Text with **strong**, *weak*, ***both***, ~~gone~~, `code`, snake_case_word and 2 * 3 * 4.
Next line https://example.org/a_b(c). And [a link](https://example.org/x_(y) "title"), <mailto:a@example.org>.

1. first
2. second
   - inner **bold**
   - [x] done

     ```js
     let a = 1;

     let b = 2;
     ```
3. third

| a | b |
|:--|--:|
| 1 | `x\\|y` |

> quoted
> - item
> > deeper

---
```python
def f():
    return "```"
```
~~~
open
"""
ALLOWED = frozenset(
    {*("A", "P", "DIV", "SPAN", "CODE", "PRE", "BUTTON", "EM", "STRONG", "DEL", "UL", "OL", "LI", "BLOCKQUOTE", "HR")}
    | {*("H3", "H4", "H5", "H6", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD")}
)
RENDER = """(text) => {
  const root = document.body.appendChild(document.createElement("div"));
  const began = performance.now();
  window.tollhouseMarkdown.render(root, text);
  const took = performance.now() - began;
  const found = [...root.querySelectorAll("*")];
  const told = {
    took,
    text: root.textContent.slice(0, 3000),
    names: [...new Set(found.map((one) => one.tagName))],
    links: [...root.querySelectorAll("a")].map((one) => [one.href, one.rel, one.textContent]),
    odd: found.flatMap((one) => one.getAttributeNames()).filter((name) => /^on|^style$|^src$/.test(name)),
    deepest: 0,
  };
  for (let at = found.at(-1); at && at !== root; at = at.parentNode) told.deepest += 1;
  root.remove();
  return told;
}"""
GROW = """([text, size]) => {
  const roots = [0, 1].map(() => document.createElement("div"));
  const growing = new window.tollhouseMarkdown.Growing(roots[0]);
  for (let at = 0; at < text.length; at += size) growing.update(text.slice(0, at), false);
  growing.update(text, true);
  window.tollhouseMarkdown.render(roots[1], text);
  return roots.map((root) => root.innerHTML);
}"""
SMOOTH = """(text) => {
  const root = document.body.appendChild(document.createElement("div"));
  const growing = new window.tollhouseMarkdown.Growing(root);
  let longest = 0;
  let kept = 0;
  for (let at = 0; at < text.length; at += 5) {
    const first = root.firstChild;
    const began = performance.now();
    growing.update(text.slice(0, at), false);
    longest = Math.max(longest, performance.now() - began);
    kept += first !== null && root.firstChild === first;
  }
  root.remove();
  return [longest, kept];
}"""


@pytest.fixture
def page(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Any]:
    """The playground of the admin, watched for broken policy."""
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context = panel_chromium.new_context(base_url=panel_served)
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    context.add_init_script(WATCH)
    opened = context.new_page()
    opened.goto("/playground/")
    yield opened
    assert opened.evaluate("window.__xss") is None
    assert opened.evaluate("window.__reports") == []
    context.close()


def test_hostile_texts_become_text(page: Any) -> None:
    texts = [
        f"{frame}{text}{end}" for text in PAYLOADS for frame, end in (("", ""), ("- ", ""), ("`", "`"), ("> # ", ""))
    ]
    texts += [f"[{text}]({text})" for text in PAYLOADS] + [f"```{text}\n{text}\n```" for text in PAYLOADS]
    texts += [f"|a|b|\n|-|-|\n|{text}|![x]({text})|" for text in PAYLOADS] + [LINKS]
    for text in texts:
        told = page.evaluate(RENDER, text)
        assert set(told["names"]) <= ALLOWED, text
        assert told["odd"] == [], text
        assert all(link.startswith(("http://", "https://", "mailto:")) for link, _rel, _text in told["links"]), text
    assert page.evaluate(RENDER, LINKS)["links"] == []
    assert page.evaluate(RENDER, "<b>bold</b>")["text"] == "<b>bold</b>"


def test_links_show_where_they_lead_and_pictures_are_links(page: Any) -> None:
    told = page.evaluate(RENDER, "[https://bank.test](https://evil.test/x) ![a cat](https://pictures.test/cat.png)")
    assert told["links"] == [
        ["https://evil.test/x", "noopener noreferrer nofollow", "https://bank.test (evil.test)"],
        ["https://pictures.test/cat.png", "noopener noreferrer nofollow", "a cat (pictures.test)"],
    ]


def test_floods_stay_quick_and_flat(page: Any) -> None:
    slow = {}
    for name, text in FLOODS.items():
        told = page.evaluate(RENDER, text)
        assert set(told["names"]) <= ALLOWED, name
        assert told["deepest"] < 200, name
        if told["took"] > 1500:
            slow[name] = told["took"]
    assert slow == {}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_text_that_grows_ends_as_if_it_came_whole(page: Any, size: int) -> None:
    for text in (SAMPLE, SAMPLE * 2, LINKS, "a\n- b\n\n\n1. c\nd\n# e\n|f|\n|-|\ng"):
        grown, whole = page.evaluate(GROW, [text, size])
        assert grown == whole


def test_every_cut_of_a_text_is_shown(page: Any) -> None:
    for end in range(0, len(SAMPLE), 3):
        assert set(page.evaluate(RENDER, SAMPLE[:end])["names"]) <= ALLOWED


def test_a_long_answer_keeps_what_stands_already(page: Any) -> None:
    """Over 2,000 tokens, in chunks of a token: no update takes as long as four frames, and the first block stays."""
    text = SAMPLE.replace("~~~\nopen\n", "") * 12
    longest, kept = page.evaluate(SMOOTH, text)
    assert longest < 66
    assert kept > len(text) // 5 - 40


def test_markdown_says_what_it_means(page: Any) -> None:
    _grown, whole = page.evaluate(GROW, [SAMPLE, 9])
    for part in (
        "<h3",
        "<strong>strong</strong>",
        "<em>weak</em>",
        "<strong><em>both</em></strong>",
        "<del>gone</del>",
        "snake_case_word and 2 * 3 * 4.",
        'href="https://example.org/x_(y)"',
        'href="mailto:a@example.org"',
        "<ol><li><p>first</p></li><li><p>second</p><ul><li><p>inner <strong>bold</strong></p></li><li><p>☑ done</p>",
        "let a = 1;\n\nlet b = 2;",
        "<p>third</p></li></ol>",
        '<th scope="col">a</th>',
        '<td class="md-right"><code class="md-inline">x|y</code></td>',
        "<blockquote><p>quoted</p>",
        "<hr>",
        'return "```"',
        "<span>python</span>",
        "<code>open\n</code>",
    ):
        assert part in whole, (part, whole)
