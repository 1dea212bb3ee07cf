"""The n-gram memory: addresses against recomputed primes and multipliers, reach of a changed token, gate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.cache.view import View
from octavo.config.engram import EngramConfig, EngramVariant
from octavo.config.model import ModelConfig
from octavo.kernels.engram_lookup import gate, plan_hash
from octavo.model.engram import Engram
from octavo.model.transformer import Transformer
from tests.support.oracle_engram import addresses, engram_update, multipliers, prime_table
from tests.support.ours_run import new_pool, new_state, step
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

V41_BIG = EngramConfig(
    variant=EngramVariant.V41, layers=(1, 14), max_ngram_size=4, heads_per_order=8, rows_per_head=16_000_000,
    head_dim=256, compressed_vocab_size=99_092,
)  # fmt: skip
V1_DEMO = EngramConfig(
    variant=EngramVariant.V1, layers=(1, 15), max_ngram_size=3, heads_per_order=8, rows_per_head=646_400, head_dim=64
)
MULTIPLIERS = {
    1: (76632096046245, 4839876093313, 35959672319349, 73987337458391),
    14: (67716810739261, 51510806800915, 30921347202721, 82619226485591),
}
REACH = {"v41": 4, "v1": 12}  # positions that a changed token can touch: N, or N plus the convolution's 9


def small_config(variant: str) -> ModelConfig:
    return tiny_config(compress_ratios=(0, 0), engram=tiny_engram(variant, layers=(1,), compressed_vocab_size=300))


def small_model(variant: str, *, zero: str | None = None) -> Transformer:
    """A float64 model whose layer 1 has the memory; `zero` names a weight of it to be cleared."""
    config = small_config(variant)
    tensors = random_tensors(config, 0)
    if zero is not None:
        tensors[f"layers.1.engram.{zero}.weight"].zero_()
    return build_model(config, tensors, dtype=torch.float64, compressed_ids=[t % 300 for t in range(400)])


def run(model: Transformer, streams: Tensor, ids: Tensor) -> Tensor:
    memory = model.layers[1].engram
    assert isinstance(memory, Engram)
    return memory(streams, ids, View.packed([0, len(ids)]), model.get_buffer("engram_map"))


def rows_of(model: Transformer, ids: Tensor) -> Tensor:
    memory = model.layers[1].engram
    assert isinstance(memory, Engram)
    return memory.addresses(ids, View.packed([0, len(ids)]), model.get_buffer("engram_map"))


def inputs(length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    streams = torch.randn(length, 4, 32, generator=generator, dtype=torch.float64)
    return streams, torch.randint(0, 400, (length,), generator=generator)


@pytest.mark.parametrize(
    ("engram", "sums", "first"),
    [(V41_BIG, (384006168, 384016682), (16000057, 16000079, 16000081)), (V1_DEMO, (10344164, 10348242), (646403,))],
)
def test_table_sizes_are_the_published_ones(
    engram: EngramConfig, sums: tuple[int, ...], first: tuple[int, ...]
) -> None:
    assert tuple(engram.table_rows(layer) for layer in engram.layers) == sums
    assert engram.moduli(1)[: len(first)] == first
    assert {layer: list(engram.moduli(layer)) for layer in engram.layers} == prime_table(engram)
    everything = [prime for layer in engram.layers for prime in engram.moduli(layer)]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("layer", [1, 14])
@pytest.mark.parametrize("orders", [3, 4])
def test_multipliers_are_the_published_ones(layer: int, orders: int) -> None:
    moduli = V41_BIG.moduli(layer)[: 8 * (orders - 1)]
    plan = plan_hash(layer=layer, moduli=moduli, heads=8, max_ngram=orders, vocabulary=99_092, seed=0)
    assert tuple(plan.multipliers) == MULTIPLIERS[layer][:orders]
    assert list(plan.multipliers) == multipliers(V41_BIG, layer, 99_092)[:orders]
    assert all(factor % 2 == 1 and factor * 99_091 < 2**63 for factor in plan.multipliers)


@pytest.mark.parametrize("variant", ["v41", "v1"])
def test_addresses_and_update_equal_the_oracle(variant: str) -> None:
    config, model = small_config(variant), small_model(variant)
    assert config.engram is not None
    streams, ids = inputs(40)
    small = [int(t) % 300 for t in ids]
    assert rows_of(model, ids).tolist() == addresses(config.engram, 1, small, pad=2, vocabulary=300)
    wide = {name: value.double() for name, value in random_tensors(config, 0).items()}
    assert (run(model, streams, ids) - engram_update(config, wide, 1, streams, small, 2)).abs().max() < 1e-12


@pytest.mark.parametrize("variant", ["v41", "v1"])
def test_a_token_reaches_no_further_than_it_should(variant: str) -> None:
    model = small_model(variant)
    streams, ids = inputs(40)
    other = ids.clone()
    other[11] = (other[11] + 7) % 400
    orders = 4 if variant == "v41" else 3
    moved = (rows_of(model, ids) != rows_of(model, other)).any(dim=1).nonzero().flatten().tolist()
    assert moved == list(range(11, 11 + orders))
    before, after = run(model, streams, ids), run(model, streams, other)
    touched = (before != after).flatten(1).any(dim=1).nonzero().flatten().tolist()
    assert touched == list(range(11, 11 + REACH[variant]))


def test_tokens_of_one_compressed_id_share_their_rows() -> None:
    model = small_model("v41")
    ids = torch.tensor([5, 90, 17])
    assert torch.equal(rows_of(model, ids), rows_of(model, ids + torch.tensor([300, 300, 0])))


@pytest.mark.parametrize("sizes", [(1,), (3,), (7,), (39,)])
@pytest.mark.parametrize("variant", ["v41", "v1"])
def test_addresses_and_streams_in_pieces_equal_whole(variant: str, sizes: tuple[int, ...]) -> None:
    config = small_config(variant)
    model = build_model(config, random_tensors(config, 0), compressed_ids=[t % 300 for t in range(400)])
    memory = model.layers[1].engram
    assert isinstance(memory, Engram)
    _, ids = inputs(40)
    outputs: list[Tensor] = []
    memory.register_forward_hook(lambda _m, _a, output: outputs.append(output))
    with torch.no_grad():
        model(ids, View.packed([0, 40]))
        (expected,) = outputs
        outputs.clear()
        state = new_state(model, new_pool(model))
        step(model, torch.cat((ids[:20], torch.tensor([1, 2, 3, 4, 5]))), state)
        state.rollback(25 if sizes[0] > 20 else 5)
        outputs[:] = [outputs[0][: state.length]]
        for part in ids[state.length :].split(sizes[0]):
            step(model, part, state)
    assert (torch.cat(outputs) - expected).abs().max() <= 1e-5


def test_gate_at_known_products() -> None:
    width, unit = 64, torch.ones(5, 1, 64)
    products = torch.tensor([0.0, 1.0, -1.0, 4.0, -4.0])
    # Of two vectors normalised to length sqrt(width) the scaled product is sqrt(width) at most, here s.
    angle = torch.acos(products / width**0.5)
    keys = torch.zeros(5, 1, width)
    keys[..., 0::2] = (torch.cos(angle) + torch.sin(angle)).view(5, 1, 1)
    keys[..., 1::2] = (torch.cos(angle) - torch.sin(angle)).view(5, 1, 1)
    ones = torch.ones(1, width)
    found = gate(unit, keys, ones, ones, 1e-6).flatten()
    assert found.tolist() == pytest.approx([0.5, 0.7311, 0.2689, 0.8808, 0.1192], abs=6e-4)


def test_silent_convolution_leaves_the_gated_value() -> None:
    model = small_model("v1", zero="conv")
    memory = model.layers[1].engram
    assert isinstance(memory, Engram)
    with_branch = run(model, *inputs(30))
    memory.has_conv = False
    assert torch.equal(run(model, *inputs(30)), with_branch)


@pytest.mark.parametrize("variant", ["v41", "v1"])
def test_empty_table_changes_nothing(variant: str) -> None:
    model = small_model(variant, zero="table")
    streams, ids = inputs(30)
    assert torch.equal(run(model, streams, ids), streams)
