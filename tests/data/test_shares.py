"""Shares of kinds."""

import pytest

from octavo.config.errors import ConfigError
from octavo.data.rows import KINDS
from octavo.data.shares import GROUP_TOKENS, LESSON_KINDS, LINKED, QUESTION_TOKENS, WORK_QUESTIONS, Mix


def test_linked_kinds_take_their_share_of_every_row_and_the_others_what_is_left() -> None:
    mix = Mix(multi_key=0.2, tracking=0.1)
    for is_play in (False, True):
        plain, shares = Mix().shares(is_play=is_play), mix.shares(is_play=is_play)
        assert sum(shares.values()) == pytest.approx(1)
        assert (shares["multi_key"], shares["tracking"]) == (0.2, 0.1)
        assert {kind: share * 0.7 for kind, share in plain.items()} == pytest.approx(
            {kind: shares[kind] for kind in plain}
        )
        assert not set(LINKED) & set(plain)


def test_program_text_is_asked_what_it_can_answer() -> None:
    assert set(Mix(multi_key=0.5).shares(is_code=True)) == {"quotation", "tracking"}


def test_every_kind_has_its_size() -> None:
    assert set(QUESTION_TOKENS) == set(KINDS) - set(LESSON_KINDS)
    assert set(GROUP_TOKENS) == set(LINKED)
    assert len(KINDS) < 32  # room in the sums of a training step


def test_impossible_mixes_are_named() -> None:
    with pytest.raises(ConfigError, match="share of 1.20; at most 0.9"):
        Mix(multi_key=0.6, two_hop=0.6)
    with pytest.raises(ConfigError, match="plain_weight is 1.0; it must be from 0 to below 1"):
        Mix(plain_weight=1.0)
    with pytest.raises(ConfigError, match="lesson_kinds has 'sermon'; there are dialogue, "):
        Mix(lessons=0.5, lesson_kinds=("open_book", "sermon"))


def test_rows_of_works_are_asked_for_the_work_beside_all_else() -> None:
    mix = Mix(work=0.2, multi_key=0.2)
    for is_play in (False, True):
        plain, shares = mix.shares(is_play=is_play), mix.shares(is_play=is_play, is_works=True)
        assert "work" not in plain
        assert shares["work"] == WORK_QUESTIONS
        assert {kind: share * (1 - WORK_QUESTIONS) for kind, share in plain.items()} == pytest.approx(
            {kind: shares[kind] for kind in plain}
        )
    with pytest.raises(ConfigError, match="work is 1.5; it must be from 0 to 1"):
        Mix(work=1.5)
