"""Runs of packed text and single words."""

from random import Random

import numpy as np
import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.data.prose import TextSource
from tests.support.small_code import with_code
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


@pytest.fixture(scope="module")
def source(world: SmallText) -> TextSource:
    return world.source


def test_runs_have_the_length_and_begin_at_a_sentence(source: TextSource) -> None:
    for seed in range(40):
        run = source.run(Random(seed), 700)
        assert (run.dtype, len(run)) == (np.uint16, 700)
        text = source.vocabulary.text(run)
        assert text.lstrip(" ")[0].isupper()


def test_runs_longer_than_all_documents_go_on(source: TextSource) -> None:
    total = 4 * max(len(source.run(Random(0), 100)), 10_000)
    assert len(source.run(Random(1), total)) == total


def test_same_draw_same_run(source: TextSource) -> None:
    assert (source.run(Random(5), 300) == source.run(Random(5), 300)).all()
    assert not np.array_equal(source.run(Random(5), 300), source.run(Random(6), 300))


def test_words_are_words_of_the_text(source: TextSource) -> None:
    text = source.vocabulary.text(source.run(Random(0), 60_000))
    words = {source.word(Random(seed)) for seed in range(60)}
    assert len(words) > 20
    assert sum(word in text for word in words) == len(words)


def test_a_text_too_small_is_refused(source: TextSource) -> None:
    with pytest.raises(UsageError, match="at least 160 tokens"):
        TextSource(np.zeros(9, dtype=np.uint16), np.array([0]), np.array([9]), ["a"], source.vocabulary)


def test_code_and_short_documents_stand_apart_from_prose(world: SmallText) -> None:
    source = with_code(world)
    text = source.vocabulary.text
    for seed in range(20):
        assert "const" not in text(source.run(Random(seed), 600))
        assert "The fact about" not in text(source.run(Random(seed), 600))
        assert "function" in text(source.run_of_code(Random(seed), 600))
    assert text(source.run(Random(1), 400, source="facts")).count("The fact about the") > 3
    words = {source.word(Random(seed)) for seed in range(80)}
    assert not words & {"const", "return", "function"}


def test_sources_come_by_their_share_of_the_tokens(world: SmallText) -> None:
    source = with_code(world)
    drawn = [source.any_source(Random(seed)) for seed in range(400)]
    assert set(drawn) == {"books", "javascript", "facts"}
    assert drawn.count("facts") < drawn.count("books")


def test_a_pack_without_code_says_so(source: TextSource) -> None:
    with pytest.raises(ConfigError, match="no source of program text"):
        source.run_of_code(Random(1), 300)
