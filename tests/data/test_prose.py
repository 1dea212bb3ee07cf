"""Runs of packed text and single words."""

from random import Random

import numpy as np
import pytest

from octavo.config.errors import UsageError
from octavo.data.prose import TextSource
from tests.support.small_text import small_text


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TextSource:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60).source


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
