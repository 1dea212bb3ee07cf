"""Queries and window rows, plain: by hand, slots, the last token of a slot, padding, in place, wrong input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.kernels.cache_write import cache_write, rotate_out
from octavo.kernels.cache_write.ref import row_bytes
from octavo.kernels.paged import Format, Places, Ring
from octavo.kernels.quant import decode_rows_fp8
from octavo.kernels.rope import inverse_frequencies, rope_table

K, P, EPS = 96, 16, 1e-6


def step(
    places: Places, *, B: int, R: int, form: Format = "fp32", dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    T = len(places.position)
    cos, sin = rope_table(places.position.long(), inverse_frequencies(base=10000.0, dims=P))
    rows = torch.full((B, R, row_bytes(K, form, P)), 255, dtype=torch.uint8)
    return {
        "q": torch.randn(T, 3, K).to(dtype), "kv": torch.randn(T, K).to(dtype), "kv_weight": torch.randn(K), "cos": cos,
        "sin": sin, "ring": Ring(rows), "places": places, "eps": EPS, "format": form, "rope": P,
    }  # fmt: skip


def turned(x: Tensor, position: int) -> Tensor:
    """FP64: the last P channels of a row as complex numbers, turned."""
    angle = position * inverse_frequencies(base=10000.0, dims=P)
    pair = torch.view_as_complex(x[-P:].double().view(-1, 2).contiguous())
    made = torch.view_as_real(pair * torch.polar(torch.ones_like(angle), angle))
    return torch.cat((x[:-P].double(), made.flatten()))


def normed(x: Tensor) -> Tensor:
    return x.double() / (x.double().square().mean() + EPS).sqrt()


def test_heads_and_rows_by_hand() -> None:
    given = step(Places.of([5, 0], [2, 1]), B=2, R=4)
    got = cache_write(**given)
    values = given["ring"].rows.view(torch.float32)
    for t, (b, p) in enumerate([(0, 5), (0, 6), (1, 0)]):
        for h in range(3):
            torch.testing.assert_close(got[t, h].double(), turned(normed(given["q"][t, h]), p), rtol=0, atol=2e-6)
        row = turned(normed(given["kv"][t]) * given["kv_weight"], p)
        torch.testing.assert_close(values[b, p % 4].double(), row, rtol=0, atol=2e-6)


def test_nothing_else_is_written() -> None:
    given = step(Places.of([5], [2]), B=2, R=4)
    cache_write(**given)
    assert (given["ring"].rows[0, [0, 3]] == 255).all()
    assert (given["ring"].rows[1] == 255).all()


def test_the_last_token_of_a_slot_stays() -> None:
    long = step(Places.of([3, 0], [11, 2]), B=2, R=4)
    cache_write(**long)
    short = dict(long, ring=Ring(torch.full_like(long["ring"].rows, 255)))
    kept = [*range(7, 11), 11, 12]
    places = Places(long["places"].sequence[kept], long["places"].position[kept])
    parts = {name: long[name][kept] for name in ("q", "kv", "cos", "sin")}
    cache_write(**{**short, **parts, "places": places})
    assert torch.equal(long["ring"].rows, short["ring"].rows)


def test_padding_writes_nothing_and_gives_zeros() -> None:
    places = Places(torch.tensor([-1, 0, 0], dtype=torch.int32), torch.tensor([-1, 2, -1], dtype=torch.int32))
    given = step(places, B=1, R=4)
    got = cache_write(**given)
    assert not got[[0, 2]].any()
    assert got[1].any()
    assert (given["ring"].rows[0, [0, 1, 3]] == 255).all()


def test_fp8_rows_decode_to_what_fp32_rows_hold() -> None:
    plain = step(Places.of([2], [3]), B=1, R=8)
    cache_write(**plain)
    small = dict(plain, ring=Ring(torch.zeros(1, 8, row_bytes(K, "fp8", P), dtype=torch.uint8)), format="fp8")
    cache_write(**small)
    values = plain["ring"].rows.view(torch.float32)[0, 2:5]
    read = decode_rows_fp8(small["ring"].rows[0, 2:5], K, P)
    torch.testing.assert_close(read, values, rtol=2**-4, atol=2**-7)


def test_in_place_and_back() -> None:
    given = step(Places.of([9], [2]), B=1, R=2, dtype=torch.bfloat16)
    wanted = cache_write(**given)
    given["out"] = given["q"]
    assert cache_write(**given) is given["q"]
    assert torch.equal(given["q"], wanted)
    o = torch.randn(2, 3, K)
    back = rotate_out(o, given["cos"], given["sin"])
    for t in range(2):
        torch.testing.assert_close(turned(back[t, 0], 9 + t), o[t, 0].double(), rtol=0, atol=2e-6)
    assert rotate_out(o, given["cos"], given["sin"], out=o) is o
    assert torch.equal(o, back)


def test_no_tokens() -> None:
    given = step(Places(*[torch.empty(0, dtype=torch.int32)] * 2), B=1, R=2)
    assert cache_write(**given).shape == (0, 3, K)
    assert (given["ring"].rows == 255).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kv", torch.ones(2, K + 1), r"kv is torch.float32 \(2, 97\)"),
        ("format", "fp4", "format is fp4; it must be fp32, bf16 or fp8"),
        ("rope", K + 2, f"rope is 98; it must be even, 0 to the row's width {K}"),
        ("ring", Ring(torch.zeros(1, 4, 5, dtype=torch.uint8)), r"ring.rows is .* of shape \(1, 4, 384\)"),
        ("ring", Ring(torch.zeros(1, 3, 4 * K, dtype=torch.uint8)), "ring has 3 rows a sequence"),
        ("out", torch.ones(2, 3, K, dtype=torch.bfloat16), "out is torch.bfloat16"),
        ("cos", torch.ones(2, K), f"cos turns {K} pairs of {K} channels"),
    ],
)
def test_wrong_input(name: str, value: Any, message: str) -> None:
    given = step(Places.of([0], [2]), B=1, R=4)
    with pytest.raises(ValueError, match=message):
        cache_write(**{**given, name: value})
