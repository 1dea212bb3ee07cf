"""What a layout costs each rank: bytes that it holds and bytes that it sends in a step. By hand and arithmetic alone.

Covers: FP32 master weights, gradients and optimiser state as `optim` keeps them, what FSDP brings together, streams
between recomputed layers, exchanged rows of experts and context, as the code of this package sends them. Does not
cover: a layer's own activations, logits, fragmentation, latency, overlap. Run as
`python -m octavo.train.parallel.plan flash fsdp=8,ep=32`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

from octavo.config.counts import count
from octavo.config.model import LayerKind, ModelConfig
from octavo.config.presets import preset
from octavo.config.tensors import tensor_specs
from octavo.train.groups import Role, role
from octavo.train.parallel.layout import Layout

_WIDE, _NARROW = 4, 2  # bytes of FP32 and of BF16
LINK_BYTES, FLOPS = 50e9, 400e12  # a rank's share of a 400 Gb/s network, each way; BF16 products at 40 % of an H100


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Bytes of one rank, by what for: held during a step, and sent in it; `flops` of a step's products, a rank's."""

    held: dict[str, int]
    sent: dict[str, int]
    flops: float

    @property
    def lines(self) -> list[str]:
        """A table: GB, and for what is sent and computed the least seconds at `LINK_BYTES` and `FLOPS`."""
        out = []
        for title, part in (("held", self.held), ("sent", self.sent)):
            out += [f"{title:4}  {name:36} {n / 1e9:9.2f} GB" for name, n in part.items()]
            out.append(f"{title:4}  {'in all':36} {sum(part.values()) / 1e9:9.2f} GB")
        link, products = sum(self.sent.values()) / LINK_BYTES, self.flops / FLOPS
        return [*out, f"seconds: {products:.2f} of products, {link:.2f} of sending"]


@dataclass(frozen=True)
class _Sizes:
    """Parameters: of all routed experts, of the largest layer's, of the other parts of all layers and of the largest,
    of what is no layer's; and how many Muon trains, experts left out, and in all."""

    experts: int
    layer_experts: int
    dense: int
    layer_dense: int
    root: int
    dense_matrices: int
    matrices: int

    @property
    def total(self) -> int:
        return self.experts + self.dense + self.root


def cost(config: ModelConfig, layout: Layout, *, tokens: int, micro_batches: int = 1) -> Cost:
    """`tokens` of rows pass a rank in each of `micro_batches` a step."""
    sizes, ranks = _sizes(config), layout.ranks // layout.dp
    return Cost(
        held=_held(config, layout, sizes, ranks, tokens),
        sent=_sent(config, layout, sizes, ranks, tokens, micro_batches),
        flops=8.0 * count(config).active * tokens * micro_batches,  # layers pass forward twice
    )


def _sizes(config: ModelConfig) -> _Sizes:
    experts, dense = Counter[str](), Counter[str]()
    root = dense_matrices = matrices = 0
    for spec in tensor_specs(config):
        n, block = spec.parameters, ".".join(spec.name.split(".")[:2])
        if spec.name.endswith("gate.bias"):  # moved by the balance rule, no gradient
            continue
        routed = ".ffn.experts." in spec.name
        if n and role(spec.name) is Role.MATRIX:
            matrices += n
            dense_matrices += 0 if routed else n
        if routed:
            experts[block] += n
        elif block.startswith("layers."):
            dense[block] += n
        else:
            root += n
    return _Sizes(
        experts=experts.total(), layer_experts=max(experts.values()), dense=dense.total(),
        layer_dense=max(dense.values()), root=root, dense_matrices=dense_matrices, matrices=matrices,
    )  # fmt: skip


def _held(config: ModelConfig, layout: Layout, sizes: _Sizes, ranks: int, tokens: int) -> dict[str, int]:
    layers = config.num_hidden_layers + 1
    layer = sizes.layer_experts // layout.ep + sizes.layer_dense
    return {
        "weights, FP32": _WIDE * sizes.total // ranks,
        "gradients, FP32": _WIDE * sizes.total // ranks,
        "Muon's momentum, FP32": _WIDE * sizes.matrices // ranks,
        "Adam's moments, FP32": 2 * _WIDE * (sizes.total - sizes.matrices) // ranks,
        "layers brought together (two)": 2 * _WIDE * layer,
        "a layer's gradient": _WIDE * layer,
        "embedding, head, predictor, twice": 2 * _WIDE * sizes.root,
        "streams between layers, BF16": _NARROW * layers * tokens * config.hc_mult * config.hidden_size,
    }


def _sent(
    config: ModelConfig, layout: Layout, sizes: _Sizes, ranks: int, tokens: int, micro_batches: int
) -> dict[str, int]:
    shares, ep, cp, dp = layout.fsdp * layout.cp, layout.ep, layout.cp, layout.dp
    blocks = config.num_hidden_layers + len(config.draft_ratios)
    once, again = _ring(_WIDE * sizes.root, ranks), _ring(_WIDE * sizes.dense, ranks)
    own = _ring(_WIDE * sizes.experts // ep, shares)
    # a pair's row goes out in BF16 and comes back in FP32; so forward, recomputed, and backward
    rows = 3 * (_NARROW + _WIDE) * config.num_experts_per_tok * tokens * config.hidden_size * blocks
    sent = {
        "dense weights, forward and backward": micro_batches * (once + 2 * again),
        "dense gradients": micro_batches * (once + again),
        "experts, forward and backward": micro_batches * 2 * own,
        "experts' gradients": micro_batches * own,
        "rows to experts and back": micro_batches * _ring(rows, ep),
        "context": micro_batches * _context(config, cp, tokens),
        "Muon's matrices, BF16": 2 * _ring(_NARROW * sizes.dense_matrices, ranks) // ranks,
        "replicas' gradients": micro_batches * 2 * _ring(_WIDE * sizes.total // ranks, dp),
    }
    return {name: n for name, n in sent.items() if n}


def _ring(nbytes: int, ranks: int) -> int:
    """What a rank sends so that `nbytes`, a part of which each rank has, are everywhere; or are summed up by part."""
    return nbytes * (ranks - 1) // ranks


def _context(config: ModelConfig, cp: int, tokens: int) -> int:
    """Entries and index keys brought together (forward, recomputed, and their gradient in FP32), and what goes to the
    next chunk of one row."""
    if cp == 1:
        return 0
    whole = 0
    for ratio in config.layer_ratios:
        kind = LayerKind.of(ratio)
        width = 0 if kind is LayerKind.WINDOW else config.head_dim
        width += config.index_head_dim if kind is LayerKind.CSA else 0
        whole += width * tokens * cp // ratio if width else 0
    halo = (config.sliding_window - 1) * config.head_dim * config.num_hidden_layers
    return _ring((2 * _NARROW + _WIDE) * whole, cp) + 3 * _NARROW * halo


def main(arguments: list[str] | None = None) -> None:
    """Print the table of a model of the presets and a layout."""
    parser = argparse.ArgumentParser(prog="python -m octavo.train.parallel.plan", description=main.__doc__)
    parser.add_argument("model", help="name of a preset, such as flash or pro")
    parser.add_argument("layout", help="such as fsdp=8,ep=32")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens of a rank in a micro-batch")
    parser.add_argument("--micro-batches", type=int, default=4, help="micro-batches a step")
    given = parser.parse_args(arguments)
    config, layout = preset(given.model), Layout.parse(given.layout)
    layout.check(config, [given.tokens * layout.cp])
    made = cost(config, layout, tokens=given.tokens, micro_batches=given.micro_batches)
    print(f"{given.model} on {layout.ranks} ranks, {layout.shares * given.tokens * given.micro_batches} tokens a step")
    print("\n".join(made.lines))


if __name__ == "__main__":
    main()
