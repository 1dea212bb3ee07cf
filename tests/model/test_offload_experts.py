"""Layers with experts on disk give what resident ones give, bit by bit; what they ask for and expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.config.model import ModelConfig
from octavo.engine.runner import Runner
from octavo.kernels.dispatch import Body, use
from octavo.model.checkpoint import load_weights
from octavo.model.offload import load_offloaded
from octavo.model.offload_experts import OffloadedMoE, Stack, expert_parameters
from octavo.model.offload_store import ExpertStore
from octavo.model.transformer import Transformer
from tests.support.checkpoints import official_tensors, stored_config, write_folder

IDS = torch.randint(0, 150, (90,), generator=torch.Generator().manual_seed(1)).numpy()
FORMATS: dict[str, dict[str, Any]] = {
    "fp4": {},
    "fp8": {"expert_dtype": "fp8"},
    "bf16": {"quantization": None, "expert_dtype": None},
}


def meta(config: ModelConfig) -> Transformer:
    with torch.device("meta"):
        return Transformer(config)


def pair(
    tmp_path: Path, *, dtype: torch.dtype = torch.float32, share: float = 0.4, **fields: Any
) -> tuple[Runner, Runner, ExpertStore]:
    """The resident model, the one with experts on disk, and its store, with memory for a share of the experts."""
    config = stored_config(**({"n_routed_experts": 6, "num_hash_layers": 1} | fields))
    folder = write_folder(tmp_path / "model", config, official_tensors(config, 3), shards=3)
    resident, offloaded = meta(config), meta(config)
    report = load_weights(meta(config), folder, dtype, stays=expert_parameters(resident))
    total = sum(matrix.nbytes for matrices in report.left.values() for matrix in matrices)
    load_weights(resident, folder, dtype)
    store = load_offloaded(offloaded, folder, dtype, budget_bytes=round(share * total), engram=False)
    assert store is not None
    runners = [
        Runner(model.eval().requires_grad_(False), PagePool(CacheLayout(config), capacity_tokens=1024), chunk=16)
        for model in (resident, offloaded)
    ]
    return runners[0], runners[1], store


def assert_same(resident: Runner, offloaded: Runner) -> None:
    """A prompt, single tokens, a few tokens and many, then a reading in chunks: the same logits."""
    states = [runner.new_state() for runner in (resident, offloaded)]
    cuts = [IDS[:20], *[IDS[at : at + 1] for at in range(20, 40)], IDS[40:43], IDS[43:51], IDS[51:90]]
    for cut in cuts:
        a, b = (r.step(cut, s, all_rows=True).logits for r, s in zip((resident, offloaded), states, strict=True))
        assert torch.equal(a, b), len(cut)
    for runner, state in zip((resident, offloaded), states, strict=True):
        runner.read(IDS, state)
    a, b = (r.step(IDS[:1], s).logits for r, s in zip((resident, offloaded), states, strict=True))
    assert torch.equal(a, b)


@pytest.mark.parametrize("kind", FORMATS)
def test_logits_are_those_of_the_resident_model_after_evictions(tmp_path: Path, kind: str) -> None:
    resident, offloaded, store = pair(tmp_path, share=0.5, **FORMATS[kind])
    assert_same(resident, offloaded)
    assert store.report.hits > 0
    assert store.report.bytes_read > store.total_bytes  # more than one reading of everything: some were evicted
    assert store.report.peak_bytes <= store.budget_bytes
    store.check_integrity()


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_logits_do_not_depend_on_the_budget(tmp_path: Path, share: float) -> None:
    resident, offloaded, store = pair(tmp_path, share=share, n_routed_experts=16)
    assert_same(resident, offloaded)
    assert (store.report.bytes_read <= store.total_bytes) == (share == 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_the_same_too(tmp_path: Path, dtype: torch.dtype) -> None:
    resident, offloaded, _ = pair(tmp_path, dtype=dtype)
    assert_same(resident, offloaded)


def test_rounded_activations_are_the_same_too(tmp_path: Path) -> None:
    resident, offloaded, _ = pair(tmp_path, quant_sim=True)
    assert_same(resident, offloaded)


def test_the_reference_bodies_are_the_same_too(tmp_path: Path) -> None:
    resident, offloaded, _ = pair(tmp_path)
    with use(Body.REFERENCE):
        assert torch.equal(*(runner.whole_logits(IDS[:20]) for runner in (resident, offloaded)))


def test_reading_on_two_threads_is_the_same(tmp_path: Path) -> None:
    resident, offloaded, store = pair(tmp_path, compress_ratios=(0, 4, 128, 4), num_hidden_layers=4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_same(resident, offloaded)
    finally:
        torch.set_num_threads(before)
    assert store.report.misses > 0


def test_reports_of_load_are_the_same(tmp_path: Path) -> None:
    resident, offloaded, _ = pair(tmp_path)
    x, tokens = torch.randn(12, 160), torch.from_numpy(IDS[:12])
    for a, b in zip(resident.model.layers, offloaded.model.layers, strict=True):
        with torch.inference_mode():
            (one, said), (other, told) = a.ffn(x, tokens, load=True), b.ffn(x, tokens, load=True)  # type: ignore[operator]
        assert torch.equal(one, other)
        assert torch.equal(said.counts, told.counts)
        assert torch.equal(said.balance, told.balance)


def test_draft_stages_are_offloaded_too(tmp_path: Path) -> None:
    fields = {"compress_ratios": (0, 4, 128, 0), "num_hidden_layers": 3, "num_nextn_predict_layers": 1}
    resident, offloaded, store = pair(tmp_path, **fields)
    assert_same(resident, offloaded)
    assert isinstance(offloaded.model.mtp[0].ffn, OffloadedMoE)  # type: ignore[union-attr]
    assert len(store.matrices) == 4 * 3 * 6


def test_hashed_layers_are_expected_exactly_and_no_expert_is_a_parameter(tmp_path: Path) -> None:
    _, offloaded, store = pair(tmp_path, share=1.0, num_hash_layers=3, n_routed_experts=16)
    offloaded.step(IDS[:4], offloaded.new_state())
    assert store.report.chosen > 0
    assert store.report.guess_share == 1.0
    assert store.report.guessed == store.report.guessed_right
    assert not [name for name in offloaded.model.state_dict() if ".ffn.experts." in name]


def test_learned_choices_are_guessed_by_the_next_router(tmp_path: Path) -> None:
    _, offloaded, store = pair(tmp_path, share=1.0, num_hash_layers=0, n_routed_experts=16)
    state = offloaded.new_state()
    for at in range(30):
        offloaded.step(IDS[at : at + 1], state)
    report = store.report
    assert report.guessed == report.chosen == 30 * 2 * 2  # tokens, layers behind the first, experts of a token
    assert 2 / 16 < report.guess_share < 1.0  # better than chance, and no oracle


def test_stacks_copy_and_sample_as_tensors_do(tmp_path: Path) -> None:
    resident, offloaded, _ = pair(tmp_path)
    experts = offloaded.model.layers[1].ffn.experts  # type: ignore[union-attr]
    stack, value = experts.stored["w2"], resident.model.get_parameter("layers.1.ffn.experts.w2")  # type: ignore[operator,union-attr]
    assert isinstance(stack, Stack)
    assert (stack.shape, stack.dtype) == (value.shape, value.dtype)
    chosen = torch.tensor([4, 1, 4, 0])
    assert torch.equal(stack.index_select(0, chosen), value.index_select(0, chosen))
    assert torch.equal(stack.sample(977), value.reshape(-1)[::977])
    assert np.array_equal(stack[5].numpy(), value[5].numpy())
