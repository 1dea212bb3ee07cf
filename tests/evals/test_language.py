"""Bits per byte: every token counted once with half a window before it, and our model's bits by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.config.errors import LimitError
from octavo.evals.language import OwnScorer, measure, windows
from tests.support.tiny_llm import tiny_llm


class Recorder:
    """A scorer of bytes: a token costs as many bits as tokens stand before it in its window."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def bits(self, ids: np.ndarray) -> np.ndarray:
        self.seen.append(ids.tolist())
        return np.arange(len(ids), dtype=np.float64)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 23, 24, 25, 40, 41, 100])
def test_every_token_is_counted_once_and_has_half_a_window_before_it(count: int) -> None:
    counted = []
    for start, stop, first in windows(count, 16):
        assert 0 < stop - start <= 16
        assert start == 0 or first - start == 8
        counted += range(first, stop)
    assert counted == list(range(count))


def test_texts_are_apart_and_sums_are_over_bytes() -> None:
    scorer = Recorder()
    found = measure(scorer, ["a" * 20, "é" * 4, ""], window=16)
    assert [len(ids) for ids in scorer.seen] == [16, 12, 8]
    assert found.bits == sum(range(16)) + sum(range(8, 12)) + sum(range(8))
    assert (found.bytes, found.tokens, found.window) == (28, 28, 16)
    assert found.bits_per_byte == found.bits / 28


def test_a_limit_takes_the_beginning_of_each_text() -> None:
    scorer = Recorder()
    assert measure(scorer, ["abcdef", "gh"], window=16, limit=3).tokens == 5


def test_bad_windows_and_empty_texts_are_refused() -> None:
    with pytest.raises(LimitError, match="window is 15; it must be 16 tokens or more"):
        measure(Recorder(), ["a"], window=15)
    with pytest.raises(LimitError, match="no tokens"):
        measure(Recorder(), ["", ""], window=16)


def test_our_bits_are_those_of_the_model_behind_the_first_token(tmp_path: Path) -> None:
    model = tiny_llm(tmp_path)
    text = "Some words that a tiny model has never seen. " * 40
    scorer = OwnScorer(model)
    ids = np.asarray(scorer.encode(text))
    got = scorer.bits(ids)
    whole = model.runner.whole_logits(np.array([model.tokenizer.special("BOS"), *ids]))
    expected = -torch.log_softmax(whole[:-1].double(), -1)[range(len(ids)), ids.tolist()] / math.log(2)
    assert len(got) == len(ids)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-4)
    assert not any(model.pool.allocator.held(page) for page in range(model.pool.allocator.total))
