"""A layer of a model as its compiled parts take it, and what single operations make of the same."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from octavo.cache.view import Group, View
from octavo.config.model import ModelConfig
from octavo.kernels import dispatch, hyper, step
from octavo.kernels.compress import place
from octavo.model.block import Block
from octavo.model.rotary import Rotary
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, random_tensors, tiny_config

CONFIGS = {
    "tiny": tiny_config(),
    "odd widths": tiny_config(
        hidden_size=44, num_attention_heads=6, head_dim=40, moe_intermediate_size=22, q_lora_rank=20, hc_mult=3
    ),
    "wide": tiny_config(hidden_size=256, head_dim=128, q_lora_rank=128, moe_intermediate_size=96, o_lora_rank=64),
}
FIRST = 126  # the compressors' places begin anew within the tokens


class World:
    """A layer of a model with random weights, and what its parts are given; `kernels`: a step's or a chunk's."""

    def __init__(self, kernels: ModuleType, config: ModelConfig, number: int, T: int) -> None:
        self.kernels = kernels
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
        held = block._step
        with torch.no_grad():
            layer = held.layer(block, self.streams, self.view) if kernels is step else held.held(block, self.view)
        assert layer is not None
        self.layer = layer

    def parts(self, some: slice = slice(None)) -> dict[str, Tensor]:
        """What every part gives for some of the tokens."""
        table = self.table[0][some], self.table[1][some]
        streams, o, tokens = self.streams[some], self.o[some], self.tokens[some]
        made, links = self.kernels.enter(self.layer, streams, *table, first=FIRST + (some.start or 0))
        after, x, following = self.kernels.cross(self.layer, streams, o, links, *table)
        out = self.kernels.mix(self.layer, after.clone(), x, following, self.block.ffn.gate.given(tokens)[0])
        named = {name: value for name, value in made._asdict().items() if value is not None}
        return named | {"links": links, "after": after, "x": x, "following": following, "out": out}


def by_operations(w: World) -> dict[str, Tensor]:
    block, attn = w.block, w.block.attn
    with dispatch.use(dispatch.Body.REFERENCE):
        streams, x, post, comb = hyper.begin(w.streams, block._attn_pack, **block._hyper)
        made = attn._project_in(x, w.table)
        if made.raw is not None:
            made = made._replace(raw=place(made.raw.unsqueeze(0), attn.compressor.ape, first=FIRST)[0])
        if made.index_raw is not None:
            bias = attn.indexer.compressor.ape
            made = made._replace(index_raw=place(made.index_raw.unsqueeze(0), bias, first=FIRST)[0])
        y = attn._project_out(w.o, w.table)
        after, x, next_post, next_comb = hyper.cross(streams, y, post, comb, block._ffn_pack, **block._hyper)
        y, _ = block.ffn(x, w.tokens, load=False)
        out = hyper.write(after, y, next_post, next_comb)
    links = [torch.cat((a, b.flatten(1)), 1) for a, b in ((post, comb), (next_post, next_comb))]
    named = {name: value for name, value in made._asdict().items() if value is not None}
    return named | {"links": links[0], "after": after, "x": x, "following": links[1], "out": out}


def equal_parts(world: World, number: int) -> None:
    """Compare all that the parts of layer `number` give with what operations make."""
    found, expected = world.parts(), by_operations(world)
    assert found.keys() == expected.keys()
    assert found.keys() >= {"q", "kv"} | ({"raw"} if number else set()) | ({"index_q"} if number == 1 else set())
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def on_any_threads(world: World) -> dict[str, Tensor]:
    """What the parts give, the same to the bit on one thread and on three."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = world.parts()
        torch.set_num_threads(3)
        assert all(torch.equal(value, together[name]) for name, value in world.parts().items())
    finally:
        torch.set_num_threads(threads)
    return together
