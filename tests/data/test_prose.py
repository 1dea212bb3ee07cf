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


def test_whole_documents_and_runs_of_longer_ones(world: SmallText) -> None:
    """Five short documents, one of 160 tokens and one of 300."""
    sizes = [10, 12, 14, 16, 18, 160, 300]
    names = ["facts"] * 5 + ["books"] * 2
    ends = np.cumsum(sizes)
    tokens = np.arange(ends[-1]).astype(np.uint16)
    source = TextSource(tokens, ends - sizes, ends, names, world.source.vocabulary)
    draw = Random(1)
    found = [source.document(draw, 18) for _ in range(400)]
    assert {len(one) for one in found} == set(sizes[:5])
    assert all(int(one[0]) in (ends - sizes) for one in found)
    assert min(sum(len(one) == size for one in found) for size in sizes[:5]) > 50  # each as likely
    assert source.share_beyond(18) == 460 / 530
    assert source.share_beyond(160) == 300 / 530
    assert source.share_beyond(300) == 0
    begins = []
    for _ in range(200):
        run = source.run_within(draw, 120)
        assert (np.diff(run.astype(int)) == 1).all()
        assert len(run) == 120
        assert not run[0] < 230 <= run[-1]
        begins.append(int(run[0]))
    assert 70 <= min(begins) <= 110
    assert 400 < max(begins) <= 410
    assert 0.25 < sum(begin < 230 for begin in begins) / 200 < 0.45  # by tokens: 160 of 460
    assert source.run_within(draw, 300).tolist() == list(range(230, 530))
    with pytest.raises(ConfigError, match="no document of at most 9 tokens"):
        source.document(draw, 9)
    with pytest.raises(ConfigError, match="no document of at least 301 tokens"):
        source.run_within(draw, 301)


def test_documents_of_chosen_sources_alone(world: SmallText) -> None:
    source = with_code(world)
    facts = {tuple(one.tolist()) for one in source.documents("facts")}
    draw = Random(3)
    most = max(map(len, facts))
    found = {tuple(source.document(draw, most, ("facts",)).tolist()) for _ in range(600)}
    assert found == facts
    assert source.share_beyond(most, ("facts",)) == 0.0 < source.share_beyond(most)
    books = next(source.documents("books"))
    assert source.share_beyond(len(books) - 1, ("facts", "books")) == len(books) / (
        len(books) + sum(map(len, facts))
    )  # of the chosen sources' tokens, not of all
    assert source.run_within(draw, len(books), ("books",)).tolist() == books.tolist()
    with pytest.raises(ConfigError, match="the pack has no source 'news'; it has books, javascript, facts"):
        source.document(draw, 100, ("facts", "news"))
    with pytest.raises(ConfigError, match="no document of at least"):
        source.run_within(draw, most + 1, ("facts",))
