"""Attention by document token: sums against a plain loop over what the model reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.view import Controls
from octavo.engine.attention import MassRule, MassTally
from octavo.model.attention import Mass
from octavo.model.block import BlockReport
from octavo.model.moe import Load
from tests.support.tiny import tiny_config
from tests.support.tiny_llm import tiny_llm

LOAD = Load(torch.zeros(1), torch.zeros(()), torch.zeros(1, 1, dtype=torch.int64))


def report(*mass: Mass) -> BlockReport:
    return BlockReport(None, mass, LOAD)


def slow_weights(reports: list[BlockReport], tokens: int, heads: int, layers: int) -> np.ndarray:
    """The definition, entry by entry: own tokens and, for CSA, the four before share alike; entry 0 has none before."""
    total = np.zeros(tokens)
    for block in reports:
        for ratio, values, index in block.mass:
            numbers = range(values.shape[2]) if index is None else index[0, -1].tolist()
            for entry, value in zip(numbers, values[0, -1].tolist(), strict=True):
                if entry < 0:
                    continue
                covered = list(range(ratio * entry, ratio * entry + ratio))
                if ratio == 4 and entry > 0:
                    covered += range(ratio * entry - 4, ratio * entry)
                for token in covered:
                    if token < tokens:
                        total[token] += value / (len(covered) * heads * layers)
    return total


@pytest.mark.parametrize("tokens", [1, 130, 300, 517])
def test_weights_of_a_real_step_equal_the_definition(tmp_path: Path, tokens: int) -> None:
    llm = tiny_llm(tmp_path)
    state = llm.new_state()
    llm.runner.read(torch.randint(16, 380, (tokens,)).numpy(), state)
    output = llm.runner.step(np.arange(20, 40), state, controls=Controls(mass=True))
    tally = MassTally(llm.config, tokens, MassRule())
    tally.add(output.reports)
    expected = slow_weights(list(output.reports), tokens, heads=4, layers=4)
    assert np.allclose(tally.weights(), expected, atol=1e-9)
    assert tally.weights().sum() <= 1 + 1e-6
    assert (tokens < 4) or tally.weights().sum() > 0


def test_steps_add_up_with_the_questions_weight() -> None:
    config = tiny_config(compress_ratios=(4,), num_attention_heads=1, o_groups=1)
    tally = MassTally(config, 16, MassRule(question=0.5))
    picked = Mass(4, torch.tensor([[[0.8]]]), torch.tensor([[[2]]]))
    tally.add([report(picked)], question=True)
    tally.add([report(picked)])
    assert np.allclose(tally.weights(), np.repeat([0, 0.6, 0.6, 0], 4) / 4)


def test_only_the_last_row_of_a_pass_counts() -> None:
    config = tiny_config(compress_ratios=(128,), num_attention_heads=1, o_groups=1)
    tally = MassTally(config, 256, MassRule())
    tally.add([report(Mass(128, torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), None))])
    assert np.allclose(tally.weights(), np.repeat([0, 1 / 128], 128))


def test_layers_and_hca_weight_are_obeyed() -> None:
    config = tiny_config(compress_ratios=(4, 128, 4), num_attention_heads=2, o_groups=1)
    reports = [
        report(Mass(4, torch.tensor([[[2.0]]]), torch.tensor([[[1]]]))),
        report(Mass(128, torch.tensor([[[2.0]]]), None)),
        report(Mass(4, torch.tensor([[[2.0]]]), torch.tensor([[[3]]]))),
    ]
    only_last = MassTally(config, 128, MassRule(layers=(2,)))
    only_last.add(reports)
    assert np.flatnonzero(only_last.weights()).tolist() == list(range(8, 16))
    assert only_last.weights().sum() == pytest.approx(1)
    without_hca = MassTally(config, 128, MassRule(hca=0))
    without_hca.add(reports)
    assert np.flatnonzero(without_hca.weights()).tolist() == list(range(16))
    doubled = MassTally(config, 128, MassRule(hca=2.0))
    doubled.add(reports)
    assert doubled.weights().sum() == pytest.approx(4 / 3)


def test_same_entry_twice_in_a_step_counts_twice_and_unused_places_do_not() -> None:
    config = tiny_config(compress_ratios=(4,), num_attention_heads=1, o_groups=1)
    tally = MassTally(config, 8, MassRule())
    tally.add([report(Mass(4, torch.tensor([[[0.3, 0.2, 0.9]]]), torch.tensor([[[1, 1, -1]]])))])
    assert tally.weights().sum() == pytest.approx(0.5)


def test_entries_beyond_the_document_are_ignored() -> None:
    config = tiny_config(compress_ratios=(4, 128), num_attention_heads=1, o_groups=1)
    tally = MassTally(config, 8, MassRule())
    picked = Mass(4, torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[2, 3]]]))
    tally.add([report(picked), report(Mass(128, torch.tensor([[[0.0, 0.0, 1.0]]]), None))])
    assert np.allclose(tally.weights(), np.repeat([0, 0.5 / 2 / 2 / 4], 4))  # entry 2 was pooled from tokens 4..7 too
