"""The pages agree with the code: generated ones to the letter, the others as far as a program can tell."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from config import load, marks
from services import configentries, configfile, docs, errors

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
# Installed apart, in the order of dependencies.md.
OTHERS = ("requirements-otel.in", "deploy/requirements.in", "bench/requirements.in")
READMES = ("README.md", "README.pt-BR.md")
CODE = re.compile(r"^```\w*\n(.*?)\n```$|((?:^    [^\n]+(?:\n|$))+)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.(?:py|mjs))(?:::(\w+))?[^`]*`")


def test_the_generated_pages_are_what_the_code_says():
    assert docs.write(ROOT, check_only=True) == [], "run `make docs`"


def test_a_page_that_differs_is_named_and_written_again(tmp_path):
    made = ["docs/configuration.md", "docs/errors.md", ".env.example"]
    assert docs.write(tmp_path, check_only=True) == made
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "docs").mkdir()
    assert docs.write(tmp_path, check_only=False) == made
    (tmp_path / "docs/errors.md").write_text("# Errors\n", encoding="utf-8")
    assert docs.write(tmp_path, check_only=False) == ["docs/errors.md"]
    assert docs.write(tmp_path, check_only=True) == []


def test_the_example_of_the_environment_sets_nothing_and_shows_the_defaults(tmp_path):
    text = docs.example()
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    nothing = load({}, root=tmp_path)
    assert nothing.model_fields_set <= {"instance_path"}
    names = re.findall(r"^#([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)
    assert names == [marks(field)["env"] for field in docs.fields()]
    (tmp_path / ".env").write_text(re.sub(r"^#(?=[A-Z][A-Z0-9_]+=)", "", text, flags=re.MULTILINE), encoding="utf-8")
    everything = load({"INSTANCE_PATH": str(nothing.instance_path)}, root=tmp_path)
    assert everything.model_dump() == nothing.model_dump()
    assert len(everything.model_fields_set) > 60


def test_every_setting_is_documented_in_a_row_of_its_own():
    rows = table(docs.configuration())
    wanted = [marks(field)["env"] for field in docs.fields()]
    assert [row[0].strip("`") for row in rows] == wanted
    assert all(len(row) == 3 and row[2] for row in rows), "a bar in a description would break the table"


def test_every_error_is_documented_with_its_status():
    found = {row[0]: (row[1], row[3]) for row in table(docs.error_table())}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GatewayError)]
    assert found == {kind.__name__: (str(kind.status), f"`{kind.code}`") for kind in kinds}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](#here) [b](https://x.test/) [c](page.md#there) [d](gone.md)\n# Here\n", encoding="utf-8")
    assert broken_links(page) == ["page.md#there", "gone.md"]


def test_both_readmes_say_the_same():
    """The same commands and examples, and links to the same pages; each leads to the other."""
    english, portuguese = (without_links_between(ROOT / name) for name in READMES)
    assert code_of(english) == code_of(portuguese)
    assert len(code_of(english)) >= 5
    assert LINK.findall(english) == LINK.findall(portuguese)
    assert len(re.findall(r"^#", english, re.MULTILINE)) == len(re.findall(r"^#", portuguese, re.MULTILINE))


def test_a_command_that_only_one_readme_has_is_seen():
    page = "Text `name`.\n\n    make run\n    make test\n\n```python\nprint(1)\n```\n"
    assert code_of(page) == ["    make run\n    make test", "print(1)"]
    assert code_of(page.replace("make test", "make tests")) != code_of(page)


@pytest.mark.parametrize("name", ["requirements.in", "requirements-dev.in", *OTHERS])
def test_every_direct_dependency_has_its_reason(name):
    wanted = {
        re.split(r"[\[<>=~ #]", line)[0]
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-r", "-c"))
    }
    serving, developing, *others = (DOCS / "dependencies.md").read_text(encoding="utf-8").split("\n## To ")[1:]
    part = {"requirements.in": serving, "requirements-dev.in": developing, **dict(zip(OTHERS, others, strict=True))}
    reasons = {row[0]: row[2] for row in table(part[name])}
    assert reasons.keys() == wanted
    assert all(reasons.values())


PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def test_what_is_served_with_is_tested_with():
    """`make test` installs the second file alone."""
    serving, developing = (
        dict(PINNED.findall((ROOT / name).read_text(encoding="utf-8")))
        for name in ("requirements.txt", "requirements-dev.txt")
    )
    assert len(serving) > 50
    assert {name: version for name, version in serving.items() if developing.get(name) != version} == {}


@pytest.mark.parametrize("name", [path.name for path in sorted(ROOT.glob("requirements*.in"))])
def test_what_is_asked_for_is_pinned(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    asked = {
        re.split(r"[\[<>=~ #]", line)[0].lower()
        for line in text.splitlines()
        if line and not line.startswith(("#", "-"))
    }
    pinned = dict(PINNED.findall((ROOT / name.replace(".in", ".txt")).read_text(encoding="utf-8")))
    assert asked - {one.lower() for one in pinned} == set()


def test_rows_of_the_compatibility_page_name_tests_that_exist():
    page = DOCS / "compatibility.md"
    rows = table(page.read_text(encoding="utf-8"))
    assert rows
    assert unproven(rows) == []


def test_rows_of_the_faults_name_tests_that_exist():
    page = (DOCS / "faults.md").read_text(encoding="utf-8")
    rows = table(page.split("\n## Table\n")[1])
    assert len(rows) > 30
    assert unproven([[row[0], row[1], row[3]] for row in rows]) == []


def test_a_row_without_its_test_is_seen():
    good = ["row", "what", "`tests/test_docs.py::test_a_row_without_its_test_is_seen`, `tests/test_docs.py`"]
    bad = [
        ["no test", "what", ""],
        ["no file", "what", "`tests/test_gone.py::test_x`"],
        ["no function", "what", "`tests/test_docs.py::test_x`"],
    ]
    assert unproven([good, *bad]) == ["no test", "no file", "no function"]


def test_the_example_of_the_configuration_file_is_one(tmp_path):
    text = (DOCS / "config-file.md").read_text(encoding="utf-8")
    file = tmp_path / "example.yaml"
    file.write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    found = configfile.read(file, {"OPENAI_API_KEY": "sk-x"})
    used = {name for entry in (*found.providers, *found.models) for name in entry.model_fields_set}
    fields = configentries.ProviderEntry.model_fields | configentries.ModelEntry.model_fields
    assert fields.keys() - used == {"settings"}, "the example shows every key but the rare one"


def entry_of(kind):
    """The class of a section's entries."""
    return get_args(configentries.ConfigFile.model_fields[kind].annotation)[0]


def test_the_example_of_all_sections_shows_every_key(tmp_path):
    text = (DOCS / "gitops.md").read_text(encoding="utf-8")
    file = tmp_path / "example.yaml"
    file.write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    found = configfile.read(file, {})
    kinds = {"teams", "budgets", "limits", "routes", "agents", "values"}
    used = {(kind, name) for kind in kinds for entry in getattr(found, kind) for name in entry.model_fields_set}
    fields = {(kind, name) for kind in kinds for name in entry_of(kind).model_fields}
    assert fields - used == {("budgets", "key"), ("limits", "key"), ("limits", "user")}


def table(text: str) -> list[list[str]]:
    """The rows of all tables of a page, without their heads."""
    lines = text.splitlines()
    heads = {number - 1 for number, line in enumerate(lines) if re.fullmatch(r"\|[-:| ]+\|", line)}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if line.startswith("|") and number not in heads and number - 1 not in heads
    ]


def broken_links(page: Path) -> list[str]:
    """The links of a page that lead to no file or heading of ours; other addresses are nobody's promise."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (heading and target.suffix == ".md" and heading not in headings(target)):
            found.append(link)
    return found


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def unproven(rows: list[list[str]]) -> list[str]:
    """The rows whose last cell names no test, or one that does not exist."""
    found = []
    for row in rows:
        named = TEST.findall(row[-1])
        if not named or not all(exists(path, function) for path, function in named):
            found.append(row[0])
    return found


def exists(path: str, function: str) -> bool:
    """Whether there is such a test; without a function, such a file."""
    if not (ROOT / path).exists() or not function:
        return (ROOT / path).exists()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def without_links_between(page):
    """The text of a README, which must lead to the other one."""
    text = page.read_text(encoding="utf-8")
    (other,) = set(READMES) - {page.name}
    assert f"[{other}]({other})" in text
    return text.replace(f"[{other}]({other})", "")


def code_of(page):
    """The blocks of code of a page, whichever way they are marked."""
    return [(fenced or indented).rstrip("\n") for fenced, indented in CODE.findall(page)]
