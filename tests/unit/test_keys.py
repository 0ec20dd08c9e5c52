"""The form of keys."""

import pytest

from services import keys


def test_a_new_key_is_well_formed_and_new_each_time():
    made = {keys.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(keys.is_well_formed(secret) and secret.startswith("sk-th-") for secret in made)


@pytest.mark.parametrize("position", [6, 20, 48, 54])
def test_one_wrong_character_is_seen_without_a_look_up(position):
    secret = keys.new_secret()
    wrong = secret[:position] + ("A" if secret[position] != "A" else "B") + secret[position + 1 :]
    assert not keys.is_well_formed(wrong)


@pytest.mark.parametrize("secret", ["", "sk-th-", "sk-th-" + "a" * 48, "sk-th-" + "a" * 50, "sk-th-" + "é" * 49])
def test_other_texts_are_no_keys(secret):
    assert not keys.is_well_formed(secret)


def test_a_hint_gives_little_away():
    secret = keys.new_secret()
    assert keys.hint(secret) == f"{secret[:10]}…{secret[-4:]}"
    assert keys.hint("short-token") == "sh…"
