"""The page about kinds says what the code does."""

from pathlib import Path

from services.policies.kinds import GROUPS, KINDS

PAGE = Path(__file__).parents[2] / "docs" / "policy-kinds.md"


def rows() -> list[str]:
    """The lines of the page's table, from the code."""
    return [
        f"| `{kind.name}` | {kind.title} | {kind.group} | {kind.how} |"
        for group in GROUPS
        for kind in KINDS.values()
        if kind.group == group
    ]


def test_the_table_has_every_kind_as_the_code_has_it():
    written = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert written == rows()


def test_the_page_counts_them():
    assert f"{len(KINDS)} kinds" in PAGE.read_text(encoding="utf-8")
