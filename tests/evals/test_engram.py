"""Changing the memory: off is a model without its update, permuted keeps norms, both are put back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.config.engram import EngramConfig
from octavo.config.errors import UsageError
from octavo.engine.llm import LLM
from octavo.evals.engram import changed, has_memory, permutation
from octavo.model.engram import Engram
from tests.support.tiny_llm import tiny_llm

IDS = [0, *range(5, 60)]


def remembering(folder: Path, variant: str = "v41") -> LLM:
    """A tiny model with Engram in two layers."""
    return tiny_llm(
        folder, engram=EngramConfig(variant=variant, layers=(1, 3), rows_per_head=101, head_dim=8, heads_per_order=2)
    )  # fmt: skip


def memories(llm: LLM) -> list[Engram]:
    return [module for module in llm.model.modules() if isinstance(module, Engram)]


@pytest.mark.parametrize("variant", ["v41", "v1"])
def test_off_is_the_model_whose_memory_adds_nothing(
    tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = remembering(tmp_path, variant)
    before = llm.logits(IDS, chunk=16)
    with changed(llm, "Engram off") as off:
        found, long = off.logits(IDS, chunk=16), off.logits(IDS)
    assert torch.equal(llm.logits(IDS, chunk=16), before)
    monkeypatch.setattr(Engram, "forward", lambda self, streams, tokens, view, compressed: streams)
    without = llm.logits(IDS)
    assert (before - without).abs().max() > 1e-3
    torch.testing.assert_close(found, without, atol=1e-5, rtol=0)
    torch.testing.assert_close(long, without, atol=1e-5, rtol=0)


def test_permuted_rows_stay_in_their_head_and_change_answers(tmp_path: Path) -> None:
    llm = remembering(tmp_path)
    before, tables = llm.logits(IDS, chunk=16), [one.table.weight.clone() for one in memories(llm)]
    with changed(llm, "rows permuted") as permuted:
        found = permuted.logits(IDS, chunk=16)
        for module, table in zip(memories(llm), tables, strict=True):
            order = permutation(module)
            assert torch.equal(order.sort().values, torch.arange(len(table)))
            assert torch.equal(module.table.weight, table[order])
            for first, rows in zip(module.plan.offsets, module.plan.moduli, strict=True):
                part = order[first : first + rows]
                assert (part.min() >= first) & (part.max() < first + rows)
                assert (part != torch.arange(first, first + rows)).float().mean() > 0.9
    assert (found - before).abs().max() > 1e-3
    assert torch.equal(llm.logits(IDS, chunk=16), before)


def test_weights_are_put_back_when_a_measurement_fails(tmp_path: Path) -> None:
    llm = remembering(tmp_path)
    tables = [one.table.weight.clone() for one in memories(llm)]
    with pytest.raises(KeyError), changed(llm, "rows permuted"):
        raise KeyError("stopped")
    assert all(torch.equal(one.table.weight, table) for one, table in zip(memories(llm), tables, strict=True))


def test_what_cannot_be_changed_is_said(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    assert not has_memory(llm)
    with changed(llm, "none") as same:
        assert same is llm
    with pytest.raises(UsageError, match="has no Engram that could be changed"), changed(llm, "Engram off"):
        pass
    with pytest.raises(UsageError, match="unknown change 'louder' of the memory"), changed(llm, "louder"):
        pass
