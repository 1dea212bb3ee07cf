"""Spans from weights: the right sentence first, characters exact, shares that add up."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.sources import SourceRule, find_sources
from octavo.engine.texts import Text, Texts
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_llm import STORY
from tests.support.tiny_tokenizer import tiny_tokenizer

OTHER = "Nothing is said here of words. The cat sleeps on the roof – quite still. Rain came late in the évening."


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))
    return Texts.encode([Text(name="story.txt", text=STORY), Text(name="other.txt", text=OTHER)], tokenizer)


def weights_at(texts: Texts, *places: tuple[str, float]) -> np.ndarray:
    """A thousandth spread over everything, and the given weights on the last token of each phrase."""
    weights = np.full(len(texts.ids), 0.001 / len(texts.ids))
    for phrase, weight in places:
        entry = next(e for e in texts.entries if phrase in texts.text(e))
        end = texts.text(entry).index(phrase) + len(phrase)
        token = int(np.searchsorted(texts.starts(entry), end)) - 1
        weights[entry.first_token + token] += weight
    return weights


def originals(texts: Texts) -> dict[str, str]:
    return {entry.name: texts.text(entry) for entry in texts.entries}


def test_first_source_covers_the_sentence_of_the_peak(texts: Texts) -> None:
    (first, *_) = find_sources(texts, weights_at(texts, ("keeper is heron", 0.5)), SourceRule(smooth=4))
    assert first.file == "story.txt"
    assert "The secret word of the keeper is heron." in first.text
    assert first.text == STORY[first.start : first.end]
    assert first.weight > 0.9


def test_second_text_has_its_own_offsets(texts: Texts) -> None:
    (first, *_) = find_sources(texts, weights_at(texts, ("the roof", 0.5)), SourceRule(smooth=4))
    assert (first.file, first.text) == ("other.txt", OTHER[first.start : first.end])
    assert "The cat sleeps on the roof" in first.text


def test_higher_peak_comes_first_and_both_are_given(texts: Texts) -> None:
    places = weights_at(texts, ("brought a crate", 0.2), ("the roof", 0.4))
    first, second, *_ = find_sources(texts, places, SourceRule(smooth=4))
    assert "roof" in first.text
    assert "brought a crate" in second.text
    assert first.weight > second.weight


def test_neighbouring_peaks_become_one_span(texts: Texts) -> None:
    places = weights_at(texts, ("The secret word", 0.3), ("is heron", 0.3))
    found = find_sources(texts, places, SourceRule(smooth=2))
    assert sum("heron" in source.text for source in found) == 1
    spans = sorted((source.file, source.start, source.end) for source in found)
    assert all(a[0] != b[0] or a[2] < b[1] for a, b in pairwise(spans))


def test_what_a_peak_spills_over_is_no_second_source(texts: Texts) -> None:
    places = weights_at(texts, ("heron.", 0.9), ("the roof", 0.02))
    first, second, *_ = find_sources(texts, places, SourceRule(smooth=12, core=0.9, least=0))
    assert "heron" in first.text
    assert "roof" in second.text


def test_no_weight_gives_no_source(texts: Texts) -> None:
    assert find_sources(texts, np.zeros(len(texts.ids)), SourceRule()) == ()


def test_begin_mark_and_separator_are_no_sources(texts: Texts) -> None:
    weights = np.zeros(len(texts.ids))
    gap = texts.entries[0].stop_token
    weights[0] = weights[gap] = 1.0
    assert find_sources(texts, weights, SourceRule()) == ()
    weights[5] = 0.01
    (only,) = find_sources(texts, weights, SourceRule())
    assert only.weight == pytest.approx(1.0)


def test_white_space_at_the_end_of_a_file_quotes_its_last_sentence(texts: Texts) -> None:
    padded = Texts.encode([Text(name="padded.txt", text="A word. The last one.\n \n\t\n")], texts.tokenizer)
    weights = np.zeros(len(padded.ids))
    weights[-1] = 1.0
    (only,) = find_sources(padded, weights, SourceRule(smooth=1))
    assert (only.text, only.weight) == ("The last one.", 1.0)


def test_small_shares_are_left_out_but_never_the_first(texts: Texts) -> None:
    places = weights_at(texts, ("brought a crate", 0.01), ("the roof", 0.9))
    assert len(find_sources(texts, places, SourceRule(smooth=2, least=0.05))) == 1
    assert len(find_sources(texts, np.ones(len(texts.ids)), SourceRule(count=1, least=1.0))) == 1


@given(st.lists(st.floats(0, 1), min_size=5, max_size=40), st.integers(1, 16), st.integers(1, 4))
def test_sources_are_disjoint_exact_and_add_up(texts: Texts, values: list[float], smooth: int, count: int) -> None:
    weights = np.resize(np.array(values), len(texts.ids))
    found = find_sources(texts, weights, SourceRule(smooth=smooth, count=count, reach=60))
    assert len(found) <= count
    assert sum(source.weight for source in found) <= 1 + 1e-9
    text_of = originals(texts)
    taken: dict[str, set[int]] = {}
    for source in found:
        assert source.text == text_of[source.file][source.start : source.end] != ""
        characters = set(range(source.start, source.end))
        assert not characters & taken.setdefault(source.file, set())
        taken[source.file] |= characters


def test_a_million_tokens_take_no_second(texts: Texts) -> None:
    long = Texts(np.resize(texts.ids[1 : texts.entries[0].stop_token], 1 << 20), [], texts.tokenizer)
    characters = len(long.tokenizer.decode(long.ids.tolist()))
    entry = type(texts.entries[0])(name="long", first_token=0, tokens=1 << 20, chars=characters)
    long = Texts(long.ids, [entry], texts.tokenizer)
    long.starts(entry)
    weights = np.random.default_rng(0).random(1 << 20)
    weights[700_000] = 500.0
    start = time.perf_counter()
    (first, *_) = find_sources(long, weights, SourceRule())
    assert time.perf_counter() - start < 1.0
    assert first.start <= long.starts(entry)[700_000] < first.end
