"""Every text that the code may show to people: what is marked for translation, and what errors say.

Services know no language and mark nothing. Their errors are found here by the classes they are made of, and an f-string
becomes a text with placeholders, which is how routes/wording.py knows it again. babel.cfg names `extracted`.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from babel.messages.extract import extract_from_dir, extract_python

ROOT = Path(__file__).resolve().parents[1]
KEYWORDS = {"_": None, "gettext": None, "lazy_gettext": None, "N_": None, "ngettext": (1, 2)}

# What stays English, and why.
PROTOCOL = "read by programs and their authors beside the vendor's own documentation, in its words"
CLIENTS = "clients of that gateway compare these texts"
TERMINAL = "for the operator's terminal and log, which are English"
ENGLISH: dict[str, str] = {
    "services/dialects/anthropic": PROTOCOL,
    "services/dialects/openai": PROTOCOL,
    "services/dialects/prompts": PROTOCOL,
    "services/dialects/responses": PROTOCOL,
    "services/providers/": PROTOCOL,
    "services/responses.py": PROTOCOL,
    "routes/messages.py": PROTOCOL,
    "routes/responses.py": PROTOCOL,
    "routes/callroutes.py": CLIENTS,
    "routes/keymanagement.py": CLIENTS,
    "routes/reporting.py": CLIENTS,
    "services/callevents.py": CLIENTS,
    "services/callroutes.py": CLIENTS,
    "services/costmaps.py": CLIENTS,
    "services/datapoints.py": CLIENTS,
    "services/eventrows.py": CLIENTS,
    "services/lives.py": CLIENTS,
    "services/matching.py": CLIENTS,
    "services/reporting.py": CLIENTS,
    "services/keymanagement.py": CLIENTS,
    "services/providersettings.py": CLIENTS,
    "services/usermanagement.py": CLIENTS,
    "routes/cli": TERMINAL,
    "services/pricefiles.py": TERMINAL,
    "services/reconcile.py": TERMINAL,
}


def extracted(
    file: IO[bytes], keywords: Mapping[str, Any], comment_tags: Iterable[str], options: Mapping[str, Any]
) -> Iterator[tuple[int, str, Any, list[str]]]:
    """Babel's extraction method for our Python files."""
    path = Path(file.name).resolve()
    yield from extract_python(file, keywords, comment_tags, options)
    if is_translated(path):
        for line, text in refusals(path):
            yield line, "gettext", text, []


def of_everything() -> set[str]:
    """All texts; plural forms too."""
    found: set[str] = set()
    for folder, methods in (
        ("routes", [("**.py", "tests.texts:extracted")]),
        ("services", [("**.py", "tests.texts:extracted")]),
        ("templates", [("**.html", "jinja2")]),
    ):
        for _file, _line, message, _comments, _context in extract_from_dir(
            str(ROOT / folder), methods, keywords=KEYWORDS
        ):
            found.update([message] if isinstance(message, str) else message[:1])
    return found - {""}


def is_translated(path: Path) -> bool:
    """Whether the errors of a file are shown in the language of whoever asked."""
    return not any(path.relative_to(ROOT).as_posix().startswith(start) for start in ENGLISH)


REASONS = ("checks.py", "dialogs_fields.py")  # in services/dialects: what their functions return is half a sentence


def refusals(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of the errors that a file makes, with their lines."""
    tree, kinds = _tree(path), _kinds()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and node.args:
            for text in _texts(node.args[0], path):
                if any(map(str.isalpha, _without_places(text))):
                    yield node.lineno, text
        elif isinstance(node, ast.Return) and node.value is not None and path.name in REASONS:
            yield from ((node.lineno, text) for text in _texts(node.value, path))


@cache
def _kinds() -> frozenset[str]:
    """The classes whose first argument people read."""
    classes = [node for node in ast.walk(_tree(ROOT / "services/errors.py")) if isinstance(node, ast.ClassDef)]
    return frozenset({one.name for one in classes} | {"Unfit", "BadJson", "BadPattern"})


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _texts(node: ast.AST, path: Path) -> Iterator[str]:
    """The texts that an expression may be; nothing where it only hands on another one's."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr():
            yield template(node)
        case ast.IfExp():
            yield from [*_texts(node.body, path), *_texts(node.orelse, path)]
        case ast.BinOp(op=ast.Add()):
            yield from (left + right for left in _texts(node.left, path) for right in _texts(node.right, path))
        case ast.Dict():
            for value in node.values:
                yield from _texts(value, path)
        case ast.Name(id=name):
            yield from _named(name, path)


def _named(name: str, path: Path) -> Iterator[str]:
    """The texts that a name of the file stands for: assigned, put under a key, or imported."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            owners = [one.value if isinstance(one, ast.Subscript) else one for one in targets]
            if any(isinstance(one, ast.Name) and one.id == name for one in owners) and not _is_same(node.value, name):
                yield from _texts(node.value, path)
        elif isinstance(node, ast.ImportFrom) and node.module and any(one.name == name for one in node.names):
            source = ROOT / f"{node.module.replace('.', '/')}.py"
            if source.exists():
                yield from _named(name, source)


def _is_same(node: ast.AST, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def template(node: ast.JoinedStr) -> str:
    """An f-string as a text with a named place for each of its values."""
    parts, used = [], set()
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value).replace("%", "%%"))
            continue
        name = place = _place(value.value) if isinstance(value, ast.FormattedValue) else "value"
        while place in used:
            place = f"{name}{len(used) + 1}"
        used.add(place)
        parts.append(f"%({place})s")
    return "".join(parts)


def _place(node: ast.AST) -> str:
    """What to call a value: the last name in its expression."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower().lstrip("_")
        case ast.Call(args=[argument, *_]) | ast.Subscript(value=argument):
            return _place(argument)
        case ast.IfExp(body=body) if not isinstance(body, ast.Constant):
            return _place(body)
    return "value"


def _without_places(text: str) -> str:
    while "%(" in text:
        before, _, after = text.partition("%(")
        text = before + after.partition(")s")[2]
    return text
