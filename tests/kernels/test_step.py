"""A layer's compiled parts against the model's single operations, and a token's bits alone and among others."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from octavo.cache.view import Controls, Group, View
from octavo.kernels import dispatch, hyper, step
from octavo.kernels.compress import pool
from octavo.kernels.engram_lookup import gate
from octavo.kernels.hadamard import hadamard
from octavo.kernels.pack import Pack
from octavo.kernels.projections import Inputs
from octavo.kernels.rope import norm_rotate
from tests.support.bodies import COMPILED, take
from tests.support.parts import CONFIGS, FIRST, World, equal_parts, on_any_threads

if not COMPILED:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)


@pytest.fixture(params=COMPILED, autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


@pytest.mark.parametrize("number", [0, 1, 2])  # window and hashed experts; CSA; HCA
@pytest.mark.parametrize("T", [1, 3, 8])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_parts_are_as_by_single_operations(config: str, T: int, number: int) -> None:
    equal_parts(World(step, CONFIGS[config], number, T), number)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_bits_do_not_depend_on_company_or_threads(config: str, number: int) -> None:
    world = World(step, CONFIGS[config], number, 8)
    together = on_any_threads(world)
    for t in range(8):
        for name, value in world.parts(slice(t, t + 1)).items():
            assert torch.equal(value, together[name][t : t + 1]), name


@torch.no_grad()
def test_a_write_is_that_behind_the_experts() -> None:
    world = World(step, CONFIGS["tiny"], 1, 5)
    y, made = torch.randn(5, 32), world.parts()
    post, comb = made["links"][:, :4], made["links"][:, 4:].view(5, 4, 4)
    with dispatch.use(dispatch.Body.REFERENCE):
        wanted = hyper.write(world.streams, y, post, comb)
    torch.testing.assert_close(step.write(world.streams, y, made["links"]), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("T", [1, 8])
@torch.no_grad()
def test_the_head(config: str, T: int) -> None:
    world = World(step, CONFIGS[config], 0, T)
    model, rules = world.model, {"eps": 1e-6, "norm_eps": 1e-6}
    found = step.head(world.streams, model._head_pack, model.head.weight, **rules)
    assert found is not None
    with dispatch.use(dispatch.Body.REFERENCE):
        torch.testing.assert_close(found, model.logits(world.streams), rtol=1e-4, atol=1e-5)
    assert torch.equal(model.logits(world.streams), found)
    assert step.head(world.streams, model._head_pack, model.head.weight.double(), **rules) is None
    bad = Pack.of(*[weight.double() for weight in model._head_pack.tensors()])
    assert step.head(world.streams, bad, model.head.weight, **rules) is None


@pytest.mark.parametrize(("ratio", "overlap", "has_previous"), [(4, True, True), (4, True, False), (128, False, False)])
@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("K", [16, 32, 24])
@torch.no_grad()
def test_entries(ratio: int, overlap: bool, has_previous: bool, transformed: bool, K: int) -> None:
    if transformed and K & (K - 1):
        return
    torch.manual_seed(K)
    first, groups = 7 if has_previous else 0, 2
    n, w = (groups + has_previous) * ratio, K * (1 + overlap)
    rows, gain, frequencies = torch.randn(n, 2 * w) * 3, torch.randn(K), torch.rand(4, dtype=torch.float64)
    rules = {"ratio": ratio, "overlap": overlap, "has_previous": has_previous}
    found = step.entry(rows, gain, frequencies, first=first, eps=1e-6, transformed=transformed, **rules)
    with dispatch.use(dispatch.Body.REFERENCE):
        made = pool(rows[None, :, :w], rows[None, :, w:], **rules)[0]
        angle = (torch.arange(first, first + groups) * ratio).double().unsqueeze(1) * frequencies
        wanted = norm_rotate(made, gain, angle.cos().float(), angle.sin().float(), eps=1e-6)
        wanted = hadamard(wanted) if transformed else wanted
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert step.serves_entry(rows, gain, tokens=8, ratio=ratio)
    assert not step.serves_entry(rows, gain.double(), tokens=8, ratio=ratio)
    assert not step.serves_entry(rows, gain, tokens=8, ratio=512)


@torch.no_grad()
def test_weights_that_move_and_weights_that_do_not_serve() -> None:
    world = World(step, CONFIGS["tiny"], 1, 2)
    before, wkv = world.parts()["kv"], world.block.attn.wkv
    wkv.weight.data = -wkv.weight.data
    layer = world.block._step.layer(world.block, world.streams, world.view)
    assert layer is world.layer
    torch.testing.assert_close(world.parts()["kv"], -before)
    wkv.weight.data = wkv.weight.data.double()
    assert world.block._step.layer(world.block, world.streams, world.view) is None


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@torch.no_grad()
def test_a_copy_reads_its_own_weights(again: Any) -> None:
    world = World(step, CONFIGS["tiny"], 1, 2)
    layer = again(world.layer)
    assert layer.ready()
    assert layer.address != world.layer.address
    twin = again(world.block)
    twin.attn.wkv.weight.zero_()
    there = twin._step.layer(twin, world.streams, world.view)
    made, _ = step.enter(there, world.streams, *world.table, first=FIRST)
    assert isinstance(made, Inputs)
    assert (made.kv == 0).all()
    assert (world.parts()["kv"] != 0).any()


@torch.no_grad()
def test_where_the_parts_do_not_run() -> None:
    world = World(step, CONFIGS["tiny"], 1, 2)
    block, view = world.block, world.view
    asked = view.groups[0]
    pair = Group(start=0, rows=2, length=1, first=0, past=asked.past)
    for other in (
        View(positions=view.positions, groups=(pair,)),
        View(positions=view.positions, groups=(asked, asked)),
        View(positions=view.positions, groups=(asked,), controls=Controls(load=True)),
    ):
        assert block._step.layer(block, world.streams, other) is None
    assert block._step.layer(block, torch.zeros(9, 4, 32), view) is None
    assert block._step.layer(block, world.streams.double(), view) is None
    with torch.enable_grad():
        assert block._step.layer(block, world.streams, view) is None


@pytest.mark.parametrize(("M", "D"), [(4, 32), (3, 44)])
@torch.no_grad()
def test_what_engram_recalls(M: int, D: int) -> None:
    torch.manual_seed(D)
    streams, both, gains = torch.randn(5, M, D), torch.randn(5, (M + 1) * D), torch.randn(2, M, D)
    found = step.recall(streams, both, *gains, 1e-6)
    with dispatch.use(dispatch.Body.REFERENCE):
        g = gate(streams, both[:, : M * D].view(5, M, D), *gains, 1e-6)
    torch.testing.assert_close(found, streams + g.unsqueeze(-1) * both[:, None, M * D :], rtol=1e-5, atol=1e-5)
    for t in range(5):
        assert torch.equal(step.recall(streams[t : t + 1], both[t : t + 1], *gains, 1e-6), found[t : t + 1])
