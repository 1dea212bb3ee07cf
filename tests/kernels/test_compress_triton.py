"""Entries of the fused kernel against the model's compressor, in one go, in chunks and token by token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.cache.view import View
from octavo.kernels.compress.triton import Sizes, compress
from octavo.kernels.paged import PAGE_TOKENS, Format, PagedStore, Places, Ring
from octavo.kernels.quant import (
    decode_index_fp8,
    decode_main_fp4,
    decode_rows_fp4,
    decode_rows_fp8,
    encode_index_fp8,
    encode_main_fp4,
    encode_rows_fp4,
    encode_rows_fp8,
)
from octavo.kernels.rope import inverse_frequencies
from octavo.model.compressor import Compressor
from octavo.model.rotary import Rotary
from tests.support.tiny import tiny_config

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = [29, 7, 130]
EPS = 1e-6


class World:
    """A store, a ring and parameters of one compressor; `step` compresses the next tokens of each sequence."""

    def __init__(
        self, *, K: int, P: int, ratio: int, form: Format = "fp32", row: int | None = None, ring: int | None = None,
        index: bool = False, B: int = len(LENGTHS), pages: int = 2,
    ) -> None:  # fmt: skip
        self.overlap, self.index = ratio == 4, index
        self.W = 2 * K if self.overlap else K
        span, per_page = 2 * ratio if self.overlap else ratio, PAGE_TOKENS // ratio
        self.bias = torch.randn(ratio, self.W, device=DEVICE)
        self.weight = torch.rand(K, device=DEVICE) + 0.5
        self.freq = inverse_frequencies(base=10000.0, dims=P).to(DEVICE)
        rows = torch.full((B * pages * per_page, row or 4 * K), 7, dtype=torch.uint8, device=DEVICE)
        table = torch.randperm(B * pages, device=DEVICE).view(B, pages).int()
        self.store = PagedStore(rows, table, ratio, K, form, 0 if index else P)
        self.partial = Ring(torch.full((B, ring or span, 2 * self.W), torch.nan, device=DEVICE))

    def step(self, raw: Tensor, places: Places, most: int | None = None, sizes: Sizes | None = None) -> None:
        compress(
            raw, self.bias, self.partial, self.weight, self.freq, self.store, places, overlap=self.overlap, eps=EPS,
            hadamard=self.index, most=most, sizes=sizes,
        )  # fmt: skip

    def entries(self, b: int, tokens: int) -> Tensor:
        """Bytes of the entries of a sequence of `tokens` tokens."""
        n = self.store.per_page
        slots = self.store.table[b].long().unsqueeze(1) * n + torch.arange(n, device=DEVICE)
        return self.store.rows[slots.flatten()[: tokens // self.store.ratio]]

    def forget(self) -> None:
        """Empty store and ring."""
        self.store.rows.fill_(7)
        self.partial.rows.fill_(torch.nan)


def feed(world: World, raws: list[Tensor], cut: Callable[[int], int], most: int | None = None) -> None:
    """The sequences `raws` in steps; `cut` says how many tokens of a sequence with n more come next."""
    at = [0] * len(raws)
    while any(a < len(raw) for a, raw in zip(at, raws, strict=True)):
        counts = [min(cut(len(raw) - a), len(raw) - a) for a, raw in zip(at, raws, strict=True)]
        parts = [raw[a : a + n] for raw, a, n in zip(raws, at, counts, strict=True)]
        world.step(torch.cat(parts), Places.of(at, counts, DEVICE), most)
        at = [a + n for a, n in zip(at, counts, strict=True)]


@pytest.mark.parametrize(("layer", "kind"), [(1, "main"), (1, "index"), (2, "main")])
def test_entries_are_those_of_the_model(layer: int, kind: str) -> None:
    config = tiny_config()
    compressor = Compressor(config, layer=layer, kind=kind, width=32).requires_grad_(False)
    for name, parameter in compressor.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if name == "norm.weight" else 0.0, std=0.5)
    compressor = compressor.to(DEVICE)
    rotary = Rotary(config)
    rotary.table(torch.arange(1, device=DEVICE), compressor.ratio, torch.float32)
    world = World(K=32, P=config.qk_rope_head_dim, ratio=compressor.ratio, index=kind == "index")
    world.bias, world.weight = compressor.ape.data, compressor.norm.weight.data
    world.freq = rotary._frequencies[True, torch.device(world.bias.device)]
    raws = [compressor.project(torch.randn(n, config.hidden_size, device=DEVICE)) for n in LENGTHS]
    places = Places.of([0] * len(LENGTHS), LENGTHS, DEVICE)
    compress(
        torch.cat(raws), world.bias, world.partial, world.weight, world.freq, world.store, places,
        overlap=compressor.overlap, eps=compressor.norm.eps, hadamard=kind == "index",
    )  # fmt: skip
    for b, (raw, n) in enumerate(zip(raws, LENGTHS, strict=True)):
        group = View.packed([0, n], device=DEVICE).groups[0]
        made = compressor.entries(raw.unsqueeze(0), group, rotary, torch.float32)
        got = world.entries(b, n).contiguous().view(torch.float32)
        assert len(got) == n // compressor.ratio
        torch.testing.assert_close(got, made.tile(0, made.length)[0], rtol=0, atol=3e-6)


@pytest.mark.parametrize(("ratio", "ring"), [(4, 8), (4, 16), (16, 16), (16, 64)])
def test_steps_of_any_length_give_the_same_bits(ratio: int, ring: int) -> None:
    world = World(K=16, P=8, ratio=ratio, ring=ring)
    raws = [torch.randn(n, 2 * world.W, device=DEVICE) for n in (35, 5, 50)]
    feed(world, raws, lambda n: n)
    rows, kept = world.store.rows.clone(), world.partial.rows.clone()
    draw = torch.Generator().manual_seed(3)
    ways: list[tuple[Callable[[int], int], int | None]] = [
        (lambda n: 1, 1), (lambda n: 1, None), (lambda n: ring, None),
        (lambda n: int(torch.randint(0, 12, (1,), generator=draw)), None),
    ]  # fmt: skip
    for cut, most in ways:
        world.forget()
        feed(world, raws, cut, most)
        assert torch.equal(world.store.rows, rows)
        torch.testing.assert_close(world.partial.rows, kept, rtol=0, atol=0, equal_nan=True)


def test_the_number_of_rows_at_once_changes_only_rounding() -> None:
    world = World(K=32, P=8, ratio=4)
    raw, places = torch.randn(40, 2 * world.W, device=DEVICE), Places.of([0, 0, 0], [40, 0, 0], DEVICE)
    world.step(raw, places)
    whole = world.entries(0, 40).contiguous().view(torch.float32)
    for rows in (1, 2, 4):
        world.forget()
        world.step(raw, places, sizes=Sizes(rows=rows, warps=4))
        got = world.entries(0, 40).contiguous().view(torch.float32)
        torch.testing.assert_close(got, whole, rtol=0, atol=2e-6)


FORMATS = {
    "bf16": ("bf16", 32, False, lambda x: x.bfloat16().view(torch.uint8)),
    "main fp8": ("fp8", 192, False, lambda x: encode_rows_fp8(x, 64)),
    "main fp8, last group short": ("fp8", 80, False, lambda x: encode_rows_fp8(x, 8)),
    "index fp8": ("fp8", 64, True, encode_index_fp8),
    "main fp4": ("fp4", 192, False, lambda x: encode_main_fp4(x, 64)),
    "main fp4, last group short": ("fp4", 56, False, lambda x: encode_main_fp4(x, 8)),
    "index fp4": ("fp4", 64, True, encode_rows_fp4),
}


@pytest.mark.parametrize("name", list(FORMATS))
def test_bytes_are_those_of_quant(name: str) -> None:
    """The FP32 entries of the same kernel, encoded by torch."""
    form, K, index, encode = FORMATS[name]
    P = 64 if name in ("main fp8", "main fp4") else 8
    plain = World(K=K, P=P, ratio=4, index=index)
    small = World(K=K, P=P, ratio=4, index=index, form=form, row=encode(torch.zeros(1, K)).shape[1])
    small.bias, small.weight = plain.bias, plain.weight
    raws = [torch.randn(n, 2 * plain.W, device=DEVICE) for n in LENGTHS]
    raws[0][20:24] *= 1e-4  # an entry below the floor of the scales
    raws[2][88:96, : plain.W] = 0
    for world in (plain, small):
        world.step(torch.cat(raws), Places.of([0, 0, 0], LENGTHS, DEVICE))
    for b, n in enumerate(LENGTHS):
        assert torch.equal(small.entries(b, n), encode(plain.entries(b, n).contiguous().view(torch.float32)))
    untouched = (small.store.rows == 7).all(1).sum() == len(small.store.rows) - sum(n // 4 for n in LENGTHS)
    assert untouched


@pytest.mark.parametrize("form", ["fp8", "main fp4", "index fp8", "fp4"])
def test_what_is_no_number_stays_so(form: str) -> None:
    kind: Format = "fp4" if form.endswith("fp4") else "fp8"
    encode = {
        "fp8": lambda x: encode_rows_fp8(x, 8), "main fp4": lambda x: encode_main_fp4(x, 8),
        "index fp8": encode_index_fp8, "fp4": encode_rows_fp4,
    }[form]  # fmt: skip
    index = form in ("index fp8", "fp4")
    world = World(K=64, P=8, ratio=4, form=kind, row=encode(torch.zeros(1, 64)).shape[1], index=index)
    raw = torch.randn(16, 2 * world.W, device=DEVICE)
    raw[6, 64 + 3] = torch.nan
    world.step(raw, Places.of([0, 0, 0], [16, 0, 0], DEVICE))
    rows = world.entries(0, 16)
    decode = {
        "fp8": lambda r: decode_rows_fp8(r, 64, 8),
        "main fp4": lambda r: decode_main_fp4(r, 64, 8),
        "index fp8": lambda r: decode_index_fp8(r, 64),
        "fp4": lambda r: decode_rows_fp4(r, 64),
    }[form]
    got = decode(rows)
    assert got[1].isnan().all()
    assert got[[0, 3]].isfinite().all()


def test_angles_keep_their_phase_at_a_million_tokens() -> None:
    first = 2**20 - 4
    world = World(K=16, P=16, ratio=4, B=1, pages=1)
    table = torch.zeros(1, first // PAGE_TOKENS + 1, dtype=torch.int32, device=DEVICE)
    world.store = PagedStore(world.store.rows, table, 4, 16, "fp32", 16)
    world.partial.rows.normal_()
    raw = torch.randn(4, 2 * world.W, device=DEVICE)
    world.step(raw, Places.of([first], [4], DEVICE))
    got = world.store.rows[63].view(torch.float32).double()
    rows = torch.cat((world.partial.rows[0, :4], raw))  # token 2^20 - 8 lies in slot 0
    rows = rows.double()
    value = torch.cat((rows[:4, :16], rows[4:, 16:32]))
    score = torch.cat((rows[:4, 32:48] + world.bias[:, :16], rows[4:, 48:] + world.bias[:, 16:]))
    made = (score.softmax(0) * value).sum(0)
    made = made * torch.rsqrt(made.square().mean() + EPS) * world.weight
    angle = first * world.freq
    turned = torch.view_as_complex(made.view(-1, 2)) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(got, torch.view_as_real(turned).flatten(), rtol=0, atol=2e-6)


def test_padding_and_a_full_table_write_nothing() -> None:
    world = World(K=16, P=8, ratio=4, B=2, pages=1)
    raw = torch.randn(8, 2 * world.W, device=DEVICE)
    position = torch.tensor([256, 257, 258, 259, -1, -1, -1, -1], dtype=torch.int32, device=DEVICE)
    world.step(raw, Places(torch.zeros(8, dtype=torch.int32, device=DEVICE), position))
    assert (world.store.rows == 7).all()
    assert torch.equal(world.partial.rows[0, :4], raw[:4])
    assert world.partial.rows[0, 4:].isnan().all()
    assert world.partial.rows[1].isnan().all()
    world.step(raw[:0], Places(position[:0], position[:0]))


def test_what_does_not_fit_is_refused() -> None:
    world, places = World(K=16, P=8, ratio=4), Places.of([0, 0, 0], [2, 0, 0], DEVICE)
    raw = torch.randn(2, 2 * world.W, device=DEVICE)

    def refused(match: str, **changes: object) -> None:
        arguments: dict[str, object] = {
            "raw": raw, "bias": world.bias, "partial": world.partial, "norm_weight": world.weight,
            "inv_freq": world.freq, "store": world.store, "places": places, "overlap": True, "hadamard": False,
        } | changes  # fmt: skip
        with pytest.raises(ValueError, match=match):
            compress(**arguments, eps=EPS)  # pyright: ignore[reportArgumentType]

    short = Ring(torch.zeros(3, 4, 64, device=DEVICE))
    rows, table = world.store.rows, world.store.table
    refused(r"raw is torch.float32 \[2, 63\]; it must be FP32 \[T, 64\]", raw=raw[:, :63])
    refused(r"bias is torch.float32 \[3, 32\]", bias=world.bias[:3])
    refused(r"R a power of two from 8", partial=short)
    refused(r"norm_weight is \[15\]", norm_weight=world.weight[:15])
    refused(r"inv_freq is torch.float64 \[9\]", inv_freq=torch.ones(9, dtype=torch.float64, device=DEVICE))
    refused(r"store.rope is 4; inv_freq turns 8", store=PagedStore(rows, table, 4, 16, "fp32", 4))
    refused(r"bf16 rows of width 16 have \[32\]", store=PagedStore(rows, table, 4, 16, "bf16", 8))
    refused(r"places.position is torch.int64", places=Places(places.sequence, places.position.long()))
    refused(r"bias must be contiguous", bias=world.bias.T.contiguous().T)
