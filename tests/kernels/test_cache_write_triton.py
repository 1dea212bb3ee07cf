"""Queries and window rows in Triton: the reference's results for every format, slots, padding, in place; the bytes of
what was computed are those of `quant`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels.cache_write import ref
from octavo.kernels.cache_write.ref import row_bytes
from octavo.kernels.cache_write.triton import cache_write, rotate_out
from octavo.kernels.paged import Format, Places, Ring
from octavo.kernels.rope import inverse_frequencies, rope_table

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS: list[Format] = ["fp32", "bf16", "fp8"]


def step(
    places: Places, form: Format, *, B: int, R: int, H: int = 3, K: int = 96, P: int = 16, rope: int = 16,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:  # fmt: skip
    T = len(places.position)
    cos, sin = rope_table(places.position.long(), inverse_frequencies(base=10000.0, dims=P))
    rows = torch.full((B, R, row_bytes(K, form, rope)), 255, dtype=torch.uint8, device=DEVICE)
    q, kv = torch.randn(T, H, K, device=DEVICE).to(dtype), torch.randn(T, K, device=DEVICE).to(dtype)
    return {
        "q": q, "kv": kv, "kv_weight": torch.randn(K, device=DEVICE), "cos": cos, "sin": sin, "ring": Ring(rows),
        "places": places, "eps": 1e-6, "format": form, "rope": rope,
    }  # fmt: skip


def fresh(given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**given, "ring": Ring(torch.full_like(given["ring"].rows, 255)), **changes}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("H", "K", "P", "rope"), [(3, 96, 16, 16), (5, 32, 8, 8), (1, 80, 64, 16), (2, 64, 64, 0), (4, 512, 64, 64)]
)
def test_results_are_the_references(form: Format, H: int, K: int, P: int, rope: int) -> None:
    places = Places.of([5, 0, 14], [2, 1, 3], DEVICE)
    given = step(places, form, B=3, R=4, H=H, K=K, P=P, rope=rope)
    other = fresh(given)
    got, wanted = cache_write(**given), ref.cache_write(**other)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6)
    if form == "fp32":
        rows = [x["ring"].rows.view(torch.float32) for x in (given, other)]
        written = ~rows[1].isnan()
        torch.testing.assert_close(rows[0][written], rows[1][written], rtol=1e-5, atol=2e-6)
        assert torch.equal(rows[0].isnan(), ~written)


@pytest.mark.parametrize("form", ["bf16", "fp8"])
@pytest.mark.parametrize(("K", "rope"), [(96, 16), (512, 64), (32, 32), (160, 0), (600, 2)])
def test_bytes_are_those_of_the_values(form: Format, K: int, rope: int) -> None:
    """The values are what the same arithmetic leaves in FP32 rows."""
    places = Places.of([1], [6], DEVICE)
    given = step(places, "fp32", B=1, R=8, K=K, P=16, rope=rope)
    given["kv"] *= torch.tensor([1.0, 1e-3, 1e4, 1.0, 1e-30, 1.0], device=DEVICE)[:, None]
    given["kv_weight"] *= 10.0 ** torch.linspace(-9, 4, K, device=DEVICE)
    cache_write(**given)
    values = given["ring"].rows.view(torch.float32)[0, 1:7].contiguous()
    rows = torch.full((1, 8, row_bytes(K, form, rope)), 255, dtype=torch.uint8, device=DEVICE)
    cache_write(**{**given, "format": form, "ring": Ring(rows)})
    assert torch.equal(rows[0, 1:7], ref.encoded(values, form, rope))


def test_a_group_with_nan_is_nan() -> None:
    given = step(Places.of([0], [1], DEVICE), "fp8", B=1, R=2, K=160, rope=16)
    given["kv_weight"][70] = torch.nan
    cache_write(**given)
    row = given["ring"].rows[0, 0]
    assert ((row[64:128] & 0x7F) == 0x7F).all()
    assert not ((row[:64] & 0x7F) == 0x7F).any()
    assert row[160 + 16 + 1] == 255


@pytest.mark.parametrize("form", FORMATS)
def test_the_last_token_of_a_slot_stays(form: Format) -> None:
    given = step(Places.of([3, 0], [11, 2], DEVICE), form, B=2, R=4)
    cache_write(**given)
    kept = [*range(7, 11), 11, 12]
    places = Places(given["places"].sequence[kept], given["places"].position[kept])
    parts = {name: given[name][kept] for name in ("q", "kv", "cos", "sin")}
    short = fresh(given, places=places, **parts)
    cache_write(**short)
    assert torch.equal(given["ring"].rows, short["ring"].rows)


def test_padding_writes_nothing_and_gives_zeros() -> None:
    sequence, position = torch.tensor([[-1, 0, 1, 0], [-1, 2, 6, -1]], dtype=torch.int32, device=DEVICE)
    given = step(Places(sequence, position), "bf16", B=2, R=4)
    got = cache_write(**given)
    assert not got[[0, 3]].any()
    assert got[1].any()
    assert (given["ring"].rows[0, [0, 1, 3]] == 255).all()
    assert (given["ring"].rows[1, [0, 1, 3]] == 255).all()
    assert (given["ring"].rows[:, 2] != 255).any(1).all()


def test_queries_in_place() -> None:
    given = step(Places.of([9], [2], DEVICE), "fp32", B=1, R=2)
    wanted = cache_write(**given)
    assert cache_write(**given, out=given["q"]) is given["q"]
    assert torch.equal(given["q"], wanted)


@pytest.mark.parametrize("T", [1, 70])
def test_outputs_turn_back(T: int) -> None:
    o = torch.randn(T, 3, 48, device=DEVICE)
    cos, sin = rope_table(5 * torch.arange(T, device=DEVICE), inverse_frequencies(base=10000.0, dims=16))
    wanted = ref.rotate_out(o, cos, sin)
    torch.testing.assert_close(rotate_out(o, cos, sin), wanted, rtol=1e-6, atol=1e-6)
    assert rotate_out(o, cos, sin, out=o) is o
    torch.testing.assert_close(o, wanted, rtol=1e-6, atol=1e-6)


def test_no_tokens() -> None:
    nothing = torch.empty(0, dtype=torch.int32, device=DEVICE)
    given = step(Places(nothing, nothing), "fp8", B=1, R=2)
    assert cache_write(**given).shape == (0, 3, 96)
    assert rotate_out(given["q"], given["cos"], given["sin"]).shape == (0, 3, 96)


def test_wrong_input() -> None:
    given = step(Places.of([0], [2], DEVICE), "fp8", B=1, R=4)
    with pytest.raises(ValueError, match=r"ring.rows is .*; it must be .* of shape \(1, 4, 104\)"):
        cache_write(**{**given, "rope": 0})
    with pytest.raises(ValueError, match="rope is 7; it must be even"):
        cache_write(**{**given, "rope": 7})
    with pytest.raises(ValueError, match=r"places.position is torch.int64 \(2,\)"):
        cache_write(**{**given, "places": Places(given["places"].sequence, given["places"].position.long())})
    with pytest.raises(ValueError, match="o is torch.float32 .* with gaps"):
        rotate_out(given["q"][:, :, ::2], given["cos"], given["sin"])
