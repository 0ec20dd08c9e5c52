"""Settings that travel in headers: what no header can carry is refused at the start, by name, and not repeated."""

import pytest

import config as settings
from config import ConfigError


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_AI_KEY", "OPENAI_ORG_ID", "ANTHROPIC_API_KEY"])
def test_what_no_header_can_carry_is_refused_without_being_repeated(tmp_path, name):
    (tmp_path / "key").write_text("sk-abc\u65e5\n", encoding="utf-8")
    given = [{name: "sk-abc\u2026"}, {name: "sk-abc\udce9"}]
    given += [{f"{name}_FILE": str(tmp_path / "key")}] if name.endswith("_API_KEY") else []
    for environ in given:
        with pytest.raises(ConfigError) as caught:
            settings.load(environ, root=tmp_path)
        (found,) = caught.value.problems
        assert found.startswith(f"{name}: has characters other than ASCII")
        assert "sk-abc" not in found


def test_what_a_header_can_carry_is_taken(tmp_path):
    assert settings.load({"OPENAI_API_KEY": "sk-a b~1"}, root=tmp_path).openai_api_key == "sk-a b~1"
