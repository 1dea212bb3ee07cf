"""Documents in one row never see each other: each gives what it gives alone, and nothing of it reaches another.

Losses and gradients are in `tests/train/test_borders.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, Picks, View
from octavo.config.model import ModelConfig
from octavo.kernels.dispatch import Body, use
from octavo.model.transformer import Transformer
from tests.support.packing import alone, packed, packings, restarted
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

CONFIGS = {
    "every kind of layer": tiny_config(),
    "engram": tiny_config(engram=tiny_engram("v41")),
    "engram with a convolution": tiny_config(engram=tiny_engram("v1")),
    "rounded": tiny_config(quant_sim=True),
}
PACKINGS = [*packings(4, seed=1), (128, 256), (1, 1, 1), (4, 4), (1, 129, 3, 4)]


def model_of(config: ModelConfig) -> Transformer:
    return build_model(config, random_tensors(config, 0)).double()


def ids(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 400, (count,), generator=torch.Generator().manual_seed(seed))


def logits_of(model: Transformer, tokens: Tensor, view: View, *, grad: bool = False) -> Tensor:
    with torch.set_grad_enabled(grad):
        return model.logits(model(tokens, view).streams).detach()


CASES = [("engram", one) for one in PACKINGS] + [(name, one) for name in CONFIGS for one in PACKINGS[:2]]


@pytest.mark.parametrize(("name", "lengths"), CASES, ids=str)
def test_documents_of_a_row_give_what_they_give_alone(name: str, lengths: tuple[int, ...]) -> None:
    model, tokens = model_of(CONFIGS[name]), ids(sum(lengths))
    made = logits_of(model, tokens, packed([lengths]))
    torch.testing.assert_close(made, logits_of(model, tokens, alone([lengths])), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lengths", [(128, 256), (1, 129, 3, 40)], ids=str)
def test_documents_of_a_row_choose_among_all_entries_in_two_levels_too(lengths: tuple[int, ...]) -> None:
    """So does training; a document that is read alone chooses in two levels."""
    levels = tiny_config(index_levels=2, index_blocks=1, index_from_tokens=0)
    model, exact, tokens = model_of(levels), model_of(tiny_config()), ids(sum(lengths))
    row = logits_of(model, tokens, packed([lengths]))
    torch.testing.assert_close(row, logits_of(exact, tokens, alone([lengths])), rtol=0, atol=1e-9)
    torch.testing.assert_close(row, logits_of(model, tokens, alone([lengths]), grad=True), rtol=0, atol=1e-9)
    assert not torch.allclose(row, logits_of(model, tokens, alone([lengths])), rtol=0, atol=1e-6)


CONTROLS = {
    "as it is": Controls(),
    "all entries": Controls(picks=Picks.ALL),
    "three picks": Controls(index_topk=3),
    "dilution": Controls(hca_offset=torch.tensor([2.0]), index_topk=5),
    "without HCA": Controls(hca=False),
}


@pytest.mark.parametrize("body", list(Body))
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", CONTROLS)
def test_in_every_body(body: Body, grad: bool, name: str) -> None:
    controls = CONTROLS[name]
    rows = [(130, 1, 9), (7, 128, 5), (140,)]
    model, tokens = model_of(tiny_config(engram=tiny_engram("v41"))), ids(3 * 140)
    with use(body):
        made = logits_of(model, tokens, packed(rows, controls=controls), grad=grad)
        expected = logits_of(model, tokens, alone(rows, controls=controls), grad=grad)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("lengths", packings(3, seed=2), ids=str)
def test_in_float32(lengths: tuple[int, ...]) -> None:
    config = tiny_config(engram=tiny_engram("v41"))
    model, tokens = build_model(config, random_tensors(config, 3)), ids(sum(lengths), 4)
    controls = Controls(index_topk=100)  # near ties of single scores would fall to either side
    made = logits_of(model, tokens, packed([lengths], controls=controls))
    torch.testing.assert_close(made, logits_of(model, tokens, alone([lengths], controls=controls)), rtol=0, atol=1e-4)


def test_a_row_of_one_document_is_a_row_without_borders() -> None:
    model, tokens = model_of(tiny_config(engram=tiny_engram("v1"))), ids(300)
    made, plain = (logits_of(model, tokens, view) for view in (packed([(300,)]), alone([(300,)])))
    torch.testing.assert_close(made, plain, rtol=0, atol=1e-9)


def test_positions_with_jumps_are_each_documents_own() -> None:
    """As `octavo.data.positions` draws them."""
    lengths, far = (256, 70, 257), restarted((256, 70, 257))
    far[128:256] += 128 * 9
    far[326 + 128 :] += 128 * 700
    model, tokens = model_of(tiny_config()), ids(sum(lengths))
    made = logits_of(model, tokens, packed([lengths], positions=far))
    torch.testing.assert_close(made, logits_of(model, tokens, alone([lengths], positions=far)), rtol=0, atol=1e-9)
    near = logits_of(model, tokens, packed([lengths]))
    assert not torch.allclose(made[200:256], near[200:256], atol=1e-6)
    torch.testing.assert_close(made[256:326], near[256:326], rtol=0, atol=0)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("body", list(Body))
def test_what_a_document_says_reaches_no_other_bit_for_bit(body: Body, grad: bool) -> None:
    """Experts are given, since how many tokens of others share an expert's product may change its last bits."""
    config = tiny_config(engram=tiny_engram("v1"), num_hash_layers=0)
    model, lengths = build_model(config, random_tensors(config, 1)), (131, 1, 130, 64)
    chosen = torch.stack([torch.randperm(6)[:2] for _ in range(sum(lengths))])
    controls = Controls(index_topk=6, routing=dict.fromkeys(range(config.num_hidden_layers), chosen))
    tokens, borders = ids(sum(lengths)), [0, 131, 132, 262, 326]
    with use(body):
        before = logits_of(model, tokens, packed([lengths], controls=controls), grad=grad)
        for changed in (0, 2):
            other, here = tokens.clone(), slice(borders[changed], borders[changed + 1])
            other[here] = (other[here] + 1 + torch.arange(lengths[changed]) % 7) % 400
            after = logits_of(model, other, packed([lengths], controls=controls), grad=grad)
            assert not torch.equal(after[here], before[here])
            for kept in set(range(4)) - {changed}:
                there = slice(borders[kept], borders[kept + 1])
                assert torch.equal(after[there], before[there]), (changed, kept)


def test_random_picks_are_a_documents_own() -> None:
    """The control draws among as many entries, but otherwise: what it may draw is all of the document's and no more."""
    model, tokens = model_of(tiny_config()), ids(300)
    controls = Controls(picks=Picks.RANDOM, index_topk=2)
    before = logits_of(model, tokens, packed([(100, 200)], controls=controls))
    tokens[:100] = ids(100, 9)
    after = logits_of(model, tokens, packed([(100, 200)], controls=controls))
    torch.testing.assert_close(after[100:], before[100:], rtol=0, atol=1e-12)
    assert not torch.allclose(after[:100], before[:100])


@pytest.mark.parametrize("options", [{"index_every": 1}, {"index_every": 3, "index_topk": 5}, {"picks": Picks.ALL}])
def test_index_loss_is_the_sum_of_the_documents(options: dict[str, Any]) -> None:
    """Every n-th query of the row teaches, so with n above 1 the documents alone are asked at the same places."""
    lengths, config = (132, 5, 60, 127, 300), tiny_config()
    model, tokens = model_of(config), ids(624)
    controls = Controls(index_loss=True, **options)
    with torch.enable_grad():
        made = model(tokens, packed([lengths], controls=controls)).reports
        every = replace(controls, index_every=1)
        parts = []
        for at, n in zip([0, 132, 137, 197, 324], lengths, strict=True):
            parts.append(model(tokens[at : at + n], View.packed([0, n], controls=every)).reports)
    for layer, one in enumerate(made):
        if one.index_loss is None:
            continue
        assert one.index_loss.queries > 0
        if controls.index_every == 1:
            divergence = sum(p[layer].index_loss.divergence for p in parts)
            assert one.index_loss.queries == sum(p[layer].index_loss.queries for p in parts)
            torch.testing.assert_close(one.index_loss.divergence, divergence, rtol=1e-9, atol=1e-12)
