"""A layer's compiled parts against the model's single operations, and a token's bits alone and among others."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, Group, View
from octavo.config.model import ModelConfig
from octavo.kernels import dispatch, hyper, step
from octavo.kernels.compress import place, pool
from octavo.kernels.engram_lookup import gate
from octavo.kernels.hadamard import hadamard
from octavo.kernels.pack import Pack
from octavo.kernels.projections import Inputs
from octavo.kernels.rope import norm_rotate
from octavo.model.block import Block
from octavo.model.rotary import Rotary
from octavo.model.transformer import Transformer
from tests.support.bodies import COMPILED, take
from tests.support.tiny import build_model, random_tensors, tiny_config

if not COMPILED:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

CONFIGS = {
    "tiny": tiny_config(),
    "odd widths": tiny_config(
        hidden_size=44, num_attention_heads=6, head_dim=40, moe_intermediate_size=22, q_lora_rank=20, hc_mult=3
    ),
    "wide": tiny_config(hidden_size=256, head_dim=128, q_lora_rank=128, moe_intermediate_size=96, o_lora_rank=64),
}
FIRST = 126  # the compressors' places begin anew within the tokens


@pytest.fixture(params=COMPILED, autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


class World:
    """A layer of a model with random weights, and what its parts are given."""

    def __init__(self, config: ModelConfig, number: int, T: int) -> None:
        torch.manual_seed(T)
        self.model = build_model(config, random_tensors(config, 3))
        assert isinstance(self.model, Transformer)
        block = self.model.layers[number]
        assert isinstance(block, Block)
        self.block, M, D = block, config.hc_mult, config.hidden_size
        self.streams, self.o = torch.randn(T, M, D), torch.randn(T, config.num_attention_heads, config.head_dim)
        self.tokens = torch.randint(0, config.vocab_size, (T,))
        self.table = Rotary(config).table(torch.arange(FIRST, FIRST + T), block.ratio, torch.float32)
        group: Any = Group(start=0, rows=1, length=T, first=FIRST, past=None)  # pyright: ignore[reportArgumentType]
        self.view = View(positions=torch.arange(FIRST, FIRST + T), groups=(group,))
        with torch.no_grad():
            self.layer = block._step.layer(block, self.streams, self.view)
        assert self.layer is not None

    def parts(self, some: slice = slice(None)) -> dict[str, Tensor]:
        """What every part gives for some of the tokens."""
        table = self.table[0][some], self.table[1][some]
        streams, o, tokens = self.streams[some], self.o[some], self.tokens[some]
        made, links = step.enter(self.layer, streams, *table, first=FIRST + (some.start or 0))
        after, x, following = step.cross(self.layer, streams, o, links, *table)
        out = step.mix(self.layer, after, x, following, self.block.ffn.gate.given(tokens)[0])
        named = {name: value for name, value in made._asdict().items() if value is not None}
        return named | {"links": links, "after": after, "x": x, "following": following, "out": out}


def by_operations(w: World) -> dict[str, Tensor]:
    block, attn = w.block, w.block.attn
    with dispatch.use(dispatch.Body.REFERENCE):
        x, post, comb = hyper.begin(w.streams, block._attn_pack, **block._hyper)
        made = attn._project_in(x, w.table)
        if made.raw is not None:
            made = made._replace(raw=place(made.raw.unsqueeze(0), attn.compressor.ape, first=FIRST)[0])
        if made.index_raw is not None:
            bias = attn.indexer.compressor.ape
            made = made._replace(index_raw=place(made.index_raw.unsqueeze(0), bias, first=FIRST)[0])
        y = attn._project_out(w.o, w.table)
        after, x, next_post, next_comb = hyper.cross(w.streams, y, post, comb, block._ffn_pack, **block._hyper)
        y, _ = block.ffn(x, w.tokens, load=False)
        out = hyper.write(after, y, next_post, next_comb)
    links = [torch.cat((a, b.flatten(1)), 1) for a, b in ((post, comb), (next_post, next_comb))]
    named = {name: value for name, value in made._asdict().items() if value is not None}
    return named | {"links": links[0], "after": after, "x": x, "following": links[1], "out": out}


@pytest.mark.parametrize("number", [0, 1, 2])  # window and hashed experts; CSA; HCA
@pytest.mark.parametrize("T", [1, 3, 8])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_parts_are_as_by_single_operations(config: str, T: int, number: int) -> None:
    world = World(CONFIGS[config], number, T)
    found, expected = world.parts(), by_operations(world)
    assert found.keys() == expected.keys()
    assert found.keys() >= {"q", "kv"} | ({"raw"} if number else set()) | ({"index_q"} if number == 1 else set())
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_bits_do_not_depend_on_company_or_threads(config: str, number: int) -> None:
    world, threads = World(CONFIGS[config], number, 8), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = world.parts()
        torch.set_num_threads(3)
        assert all(torch.equal(value, together[name]) for name, value in world.parts().items())
    finally:
        torch.set_num_threads(threads)
    for t in range(8):
        for name, value in world.parts(slice(t, t + 1)).items():
            assert torch.equal(value, together[name][t : t + 1]), name


@torch.no_grad()
def test_a_write_is_that_behind_the_experts() -> None:
    world = World(CONFIGS["tiny"], 1, 5)
    y, made = torch.randn(5, 32), world.parts()
    post, comb = made["links"][:, :4], made["links"][:, 4:].view(5, 4, 4)
    with dispatch.use(dispatch.Body.REFERENCE):
        wanted = hyper.write(world.streams, y, post, comb)
    torch.testing.assert_close(step.write(world.streams, y, made["links"]), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("T", [1, 8])
@torch.no_grad()
def test_the_head(config: str, T: int) -> None:
    world = World(CONFIGS[config], 0, T)
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
    world = World(CONFIGS["tiny"], 1, 2)
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
    world = World(CONFIGS["tiny"], 1, 2)
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
    world = World(CONFIGS["tiny"], 1, 2)
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
