"""Prose and plays as ground of a row."""

from random import Random

import pytest

from octavo.data.ground import asked_lines, code, plain, play, prose
from tests.support.small_code import with_code
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=120)


def test_prose_is_text_without_lines(world: SmallText) -> None:
    ground = prose(Random(1), world.source, 500)
    assert len(ground.tokens) == 500
    assert not ground.is_play
    assert len(ground.paragraphs()) > 0


def test_lines_of_a_play_lie_under_their_speakers(world: SmallText) -> None:
    for seed in range(12):
        ground = play(Random(seed), world.source, world.encode, 1200)
        assert len(ground.tokens) == 1200
        assert ground.is_play
        for line in ground.lines:
            assert line.name_start < line.name_stop <= line.start < line.stop <= 1200
            assert ground.source.vocabulary.text(ground.tokens[line.start : line.stop]).strip() == line.text
            name = ground.source.vocabulary.text(ground.tokens[line.name_start : line.name_stop]).strip()
            assert 1 <= len(name.split()) <= 3


def test_asked_lines_stand_once_and_are_long_enough(world: SmallText) -> None:
    ground = play(Random(3), world.source, world.encode, 2000)
    texts = [ground.lines[i].text for i in asked_lines(ground)]
    assert texts
    assert len(set(texts)) == len(texts)
    assert min(len(text.split()) for text in texts) >= 4


def test_text_refuses_line_ends_and_cut_characters(world: SmallText) -> None:
    ground = prose(Random(2), world.source, 600)
    border = int(ground.paragraphs()[0])
    assert ground.text(border - 2, border + 2) is None
    assert ground.text(border, border + 3)


def test_code_is_indented_text_without_lines_of_speech(world: SmallText) -> None:
    ground = code(Random(1), with_code(world), 900)
    assert (len(ground.tokens), ground.is_code, ground.is_play) == (900, True, False)
    found = {ground.indentation(int(at)) for at in ground.paragraphs()}
    assert found == {"", "  "}


def test_plain_ground_is_of_one_source(world: SmallText) -> None:
    source = with_code(world)
    for seed in range(12):
        text = source.vocabulary.text(plain(Random(seed), source, 500).tokens)
        assert ("function" in text) + ("The fact about" in text) <= 1
