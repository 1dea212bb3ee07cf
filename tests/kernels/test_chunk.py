"""A layer's compiled parts for many tokens against the model's single operations; a token's bits in any company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Group, View
from octavo.config.model import ModelConfig
from octavo.kernels import chunk, dispatch, hyper, native
from octavo.kernels.compress import place
from octavo.kernels.engram_lookup import gate
from octavo.model.block import Block
from octavo.model.rotary import Rotary
from octavo.model.transformer import Transformer
from tests.support.bodies import COMPILED, take
from tests.support.tiny import build_model, random_tensors, tiny_config

LEVELS = [level for level in COMPILED if native.load(level, native.CHUNK) is not None]
if not LEVELS:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

CONFIGS = {
    "tiny": tiny_config(),
    "odd widths": tiny_config(
        hidden_size=44, num_attention_heads=6, head_dim=40, moe_intermediate_size=22, q_lora_rank=20, hc_mult=3
    ),
    "wide": tiny_config(hidden_size=256, head_dim=128, q_lora_rank=128, moe_intermediate_size=96, o_lora_rank=64),
    "one stream": tiny_config(hc_mult=1),
}
FIRST = 126  # the compressors' places begin anew within the tokens
MANY = 291  # two whole tiles and panels that are full, half full and nearly empty


@pytest.fixture(params=LEVELS, autouse=True)
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
        layer = block._step.held(block, self.view)
        assert layer is not None
        self.layer = layer

    def parts(self, some: slice = slice(None)) -> dict[str, Tensor]:
        """What every part gives for some of the tokens."""
        table = self.table[0][some], self.table[1][some]
        streams, o, tokens = self.streams[some], self.o[some], self.tokens[some]
        made, links = chunk.enter(self.layer, streams, *table, first=FIRST + (some.start or 0))
        after, x, following = chunk.cross(self.layer, streams, o, links, *table)
        out = chunk.mix(self.layer, after.clone(), x, following, self.block.ffn.gate.given(tokens)[0])
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
@pytest.mark.parametrize("T", [9, 47])
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
    world, threads = World(CONFIGS[config], number, MANY), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = world.parts()
        torch.set_num_threads(3)
        assert all(torch.equal(value, together[name]) for name, value in world.parts().items())
    finally:
        torch.set_num_threads(threads)
    for some in (slice(0, 9), slice(5, 140), slice(100, MANY), slice(MANY - 1, MANY)):
        for name, value in world.parts(some).items():
            assert torch.equal(value, together[name][some]), name


@torch.no_grad()
def test_a_write_is_that_behind_the_experts() -> None:
    world = World(CONFIGS["tiny"], 1, 50)
    y, made, given = torch.randn(50, 32), world.parts(), world.streams.clone()
    post, comb = made["links"][:, :4], made["links"][:, 4:].view(50, 4, 4)
    with dispatch.use(dispatch.Body.REFERENCE):
        wanted = hyper.write(world.streams, y, post, comb)
    found = chunk.write(given, y, made["links"])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert found is given


@torch.no_grad()
def test_a_nan_stays_with_its_token() -> None:
    world = World(CONFIGS["tiny"], 1, 40)
    before = world.parts()
    world.streams[7, 2, 5] = torch.nan
    for name, value in world.parts().items():
        assert torch.equal(value[:7], before[name][:7]), name
        assert torch.equal(value[8:], before[name][8:]), name
    assert world.parts()["out"][7].isnan().all()


@pytest.mark.parametrize(("M", "D", "W"), [(4, 32, 16), (3, 44, 21)])
@torch.no_grad()
def test_what_engram_recalls(M: int, D: int, W: int) -> None:
    torch.manual_seed(D)
    streams, memory, weight = torch.randn(150, M, D), torch.randn(150, W), torch.randn((M + 1) * D, W)
    q_gain, k_gain = torch.randn(2, M, D)
    found, both = chunk.recall(streams, memory, weight, q_gain, k_gain, 1e-6), memory @ weight.T
    with dispatch.use(dispatch.Body.REFERENCE):
        g = gate(streams, both[:, : M * D].view(-1, M, D), q_gain, k_gain, 1e-6)
    torch.testing.assert_close(found, streams + g.unsqueeze(-1) * both[:, None, M * D :], rtol=1e-4, atol=1e-4)
    for some in (slice(3, 20), slice(149, 150)):
        alone = chunk.recall(streams[some], memory[some], weight, q_gain, k_gain, 1e-6)
        assert torch.equal(alone, found[some])


@pytest.mark.parametrize(("N", "O"), [(32, 48), (21, 7)])
@torch.no_grad()
def test_a_product(N: int, O: int) -> None:
    x, weight = torch.randn(N, 150).T, torch.randn(O, N)
    found = chunk.products.linear(x, weight)
    torch.testing.assert_close(found, x @ weight.T, rtol=1e-5, atol=1e-5)
    assert torch.equal(chunk.products.linear(x[40:60], weight), found[40:60])
    assert chunk.products.serves(x, weight)
    assert not chunk.products.serves(x, weight.double())
    assert not chunk.products.serves(x, weight.T)
    assert not chunk.products.serves(x[:8], weight)


@torch.no_grad()
def test_single_operations_have_the_bits_of_the_part() -> None:
    world = World(CONFIGS["wide"], 1, 150)
    ffn, parts = world.block.ffn, world.parts()
    y = ffn._routed(parts["x"], ffn.gate(parts["x"], world.tokens))
    assert torch.equal(chunk.write(parts["after"], y, parts["following"]), parts["out"])


def test_where_the_parts_run(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = torch.zeros(9, 4, 32)
    assert not chunk.serves(streams)  # gradients are on
    with torch.no_grad():
        assert chunk.serves(streams)
        assert not chunk.serves(streams[:8])
        assert not chunk.serves(streams.double())
        assert not chunk.serves(torch.zeros(9, chunk.STREAMS + 1, 32))
        with dispatch.use(dispatch.Body.REFERENCE):
            assert not chunk.serves(streams)
        take("numba", monkeypatch)
        assert not chunk.serves(streams)
