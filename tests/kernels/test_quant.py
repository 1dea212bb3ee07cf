"""Number formats: exact codes, rounding to even, exact scales, weights both ways, simulation, cache rows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.cache.layout import RowFormat, index_row_bytes, main_row_bytes
from octavo.kernels import quant
from octavo.kernels.quant import ref

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def bits(x: torch.Tensor) -> torch.Tensor:
    """The bytes of `x`, to compare values with the signs of their zeros."""
    return x.contiguous().view(torch.uint8)


def e4m3_values() -> torch.Tensor:
    """All finite e4m3 values from the definition: sign, 4 exponent bits with bias 7, 3 mantissa bits."""
    values = []
    for code in range(127):
        exponent, mantissa = code >> 3, code & 7
        values.append(mantissa * 2.0**-9 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    return torch.tensor(values)


# Number formats


def test_byte_0x21_unpacks_to_a_half_then_one() -> None:
    packed = torch.full((1, 16), 0x21, dtype=torch.int8)
    values = quant.fp4_unpack(packed, torch.tensor([[127]], dtype=torch.uint8))
    assert values[0, :2].tolist() == [0.5, 1.0]
    assert values.shape == (1, 32)


def test_every_fp4_code_in_both_halves() -> None:
    packed = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.int8).reshape(16, 16)
    values = quant.fp4_unpack(packed, torch.full((16, 1), 128, dtype=torch.uint8)).reshape(256, 2)
    table = [*E2M1, *(-v for v in E2M1)]
    expected = torch.tensor([[2 * table[byte & 15], 2 * table[byte >> 4]] for byte in range(256)])
    assert torch.equal(bits(values), bits(expected))


def test_e8m0_bytes_are_powers_of_two() -> None:
    scale = torch.tensor([120, 127, 0, 254, 255], dtype=torch.uint8)
    values = quant.scale_values(scale)
    assert values[:4].tolist() == [2.0**-7, 1.0, 2.0**-127, 2.0**127]
    assert math.isnan(values[4])
    as_e8m0 = quant.scale_values(scale.view(torch.float8_e8m0fnu))
    assert torch.equal(bits(as_e8m0), bits(values))
    assert quant.scale_values(torch.tensor([120.0])).tolist() == [120.0]


@pytest.mark.parametrize(
    ("value", "nearest"),
    [(0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0),
     (0.2501, 0.5), (0.7499, 0.5), (4.999, 4.0), (5.001, 6.0), (1.9999999, 2.0), (6.0, 6.0), (7.0, 6.0), (1e30, 6.0)],
)  # fmt: skip
def test_e2m1_ties_go_to_even_and_large_values_saturate(value: float, nearest: float) -> None:
    assert ref.round_e2m1(torch.tensor([value, -value])).tolist() == [nearest, -nearest]
    assert ref.encode_e2m1(torch.tensor([value, -value])).tolist() == [E2M1.index(nearest), 8 + E2M1.index(nearest)]


def test_e4m3_rounds_to_nearest_even_and_saturates() -> None:
    table = e4m3_values()
    middles = (table[1:].double() + table[:-1].double()) / 2
    for code, middle in enumerate(middles.tolist()):
        even = table[code if code % 2 == 0 else code + 1].item()
        assert ref.round_e4m3(torch.tensor([middle])).float().item() == even
    assert ref.round_e4m3(torch.tensor([449.0, -1e9])).float().tolist() == [448.0, -448.0]


@given(st.floats(min_value=2.0**-110, max_value=2.0**120, width=32), st.sampled_from([448.0, 6.0]))
def test_scale_is_the_smallest_power_of_two_that_fits(amax: float, largest: float) -> None:
    exponent = int(ref.scale_exponent(torch.tensor([amax]), largest))
    assert amax <= largest * 2.0**exponent
    assert amax > largest * 2.0 ** (exponent - 1)


def test_scale_at_the_exact_border() -> None:
    border = torch.tensor([448.0])
    above = torch.nextafter(border, torch.tensor([math.inf]))
    assert [int(ref.scale_exponent(x, 448.0)) for x in (border, above, border / 4)] == [0, 1, -2]


# Weights


@pytest.mark.parametrize("shape", [(128, 128), (300, 200), (1, 1), (130, 4), (0, 64)])
def test_fp8_weights_come_back_within_half_a_step(shape: tuple[int, int]) -> None:
    w = torch.randn(shape) * torch.logspace(-4, 4, shape[0])[:, None]
    q, scale = quant.fp8_quantize_blocks(w)
    assert (q.dtype, tuple(q.shape), scale.dtype) == (torch.float8_e4m3fn, shape, torch.uint8)
    assert tuple(scale.shape) == (-(-shape[0] // 128), -(-shape[1] // 128))
    back = quant.fp8_dequantize_blocks(q, scale)
    step = quant.scale_values(scale).repeat_interleave(128, 0)[: shape[0]].repeat_interleave(128, 1)[:, : shape[1]]
    assert bool(((back - w).abs() <= torch.maximum(w.abs() * 2.0**-4, step * 2.0**-10)).all())
    again, scale_again = quant.fp8_quantize_blocks(back)
    assert torch.equal(quant.fp8_dequantize_blocks(again, scale_again), back)


def test_every_e4m3_value_survives_a_tile() -> None:
    values = torch.cat((e4m3_values(), -e4m3_values()[1:])).reshape(11, 23) * 2.0**-5
    assert torch.equal(quant.fp8_dequantize_blocks(*quant.fp8_quantize_blocks(values)), values)


def test_fp8_scales_may_be_bytes_e8m0_or_values_and_rows_may_start_inside() -> None:
    w = torch.randn(300, 150) * torch.logspace(-2, 2, 300)[:, None]
    q, scale = quant.fp8_quantize_blocks(w)
    whole = quant.fp8_dequantize_blocks(q, scale)
    assert torch.equal(quant.fp8_dequantize_blocks(q, scale.view(torch.float8_e8m0fnu)), whole)
    assert torch.equal(quant.fp8_dequantize_blocks(q, quant.scale_values(scale)), whole)
    assert torch.equal(quant.fp8_dequantize_blocks(q[100:270], scale, first_row=100), whole[100:270])
    with pytest.raises(ValueError, match=r"scale is \[3, 2\]; rows up to 400"):
        quant.fp8_dequantize_blocks(q, scale, first_row=100)


def test_a_tile_with_nan_or_infinity_is_nan_and_its_neighbour_is_not() -> None:
    for bad in (math.nan, math.inf):
        w = torch.ones(128, 256)
        w[5, 7] = bad
        back = quant.fp8_dequantize_blocks(*quant.fp8_quantize_blocks(w))
        assert bool(back[:, :128].isnan().all())
        assert torch.equal(back[:, 128:], torch.ones(128, 128))


def test_fp4_weights_choose_the_nearest_value() -> None:
    w = torch.randn(7, 96)
    packed, scale = quant.fp4_pack(w)
    assert (packed.dtype, packed.shape, scale.shape) == (torch.int8, (7, 48), (7, 3))
    back = quant.fp4_unpack(packed, scale)
    table = torch.tensor(sorted({s * v for s, v in itertools.product((1, -1), E2M1)}))
    grid = quant.scale_values(scale).repeat_interleave(32, 1)[..., None] * table
    best = (grid - w[..., None]).abs().amin(-1)
    assert torch.equal((back - w).abs(), best)
    assert torch.equal(quant.fp4_unpack(*quant.fp4_pack(back)), back)


def test_fp4_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="width is 40; FP4 needs a multiple of 32"):
        quant.fp4_pack(torch.zeros(2, 40))
    with pytest.raises(ValueError, match=r"scale is \[2, 1\]"):
        quant.fp4_unpack(torch.zeros(2, 32, dtype=torch.int8), torch.zeros(2, 1, dtype=torch.uint8))


def test_fp4_to_fp8_is_lossless() -> None:
    w = torch.randn(200, 320) * torch.logspace(-1.5, 1.5, 200)[:, None]
    packed, scale = quant.fp4_pack(w)
    recast, tiles = quant.fp4_to_fp8(packed, scale)
    assert (recast.shape, tiles.shape) == ((200, 320), (2, 3))
    assert torch.equal(bits(quant.fp8_dequantize_blocks(recast, tiles)), bits(quant.fp4_unpack(packed, scale)))


def test_fp4_to_fp8_refuses_what_would_lose_bits() -> None:
    packed = torch.full((2, 16), 0x11, dtype=torch.int8)
    fits = torch.tensor([[127], [127 - 14]], dtype=torch.uint8)
    lost = torch.tensor([[127], [127 - 15]], dtype=torch.uint8)
    recast, tiles = quant.fp4_to_fp8(packed, fits)
    assert torch.equal(quant.fp8_dequantize_blocks(recast, tiles), quant.fp4_unpack(packed, fits))
    with pytest.raises(ValueError, match="differ by more than 2\\^14"):
        quant.fp4_to_fp8(packed, lost)
    with pytest.raises(ValueError, match="255"):
        quant.fp4_to_fp8(packed, torch.full((2, 1), 255, dtype=torch.uint8))


# Simulation in the graph


def test_simulation_equals_the_formula_of_the_release() -> None:
    x = torch.randn(3, 5, 448, dtype=torch.float64).float() * 3
    for simulated, size, largest, floor in (
        (quant.simulate_fp8(x), 64, 448.0, 1e-4),
        (quant.simulate_fp4(x), 32, 6.0, 6 * 2.0**-126),
    ):
        groups = x.double().unflatten(-1, (-1, size))
        scale = torch.exp2(torch.ceil(torch.log2(groups.abs().amax(-1, keepdim=True).clamp_min(floor) / largest)))
        table = torch.tensor(E2M1) if largest == 6.0 else e4m3_values()
        ratio = simulated.double().unflatten(-1, (-1, size)) / scale
        assert bool(torch.isin(ratio.abs(), table.double()).all())
        distance = ((groups / scale).abs()[..., None] - table.double()).abs().amin(-1)
        assert torch.equal((ratio - groups / scale).abs(), distance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_simulation_keeps_dtype_and_is_idempotent(dtype: torch.dtype) -> None:
    x = torch.randn(4, 128, dtype=dtype)
    for simulate in (quant.simulate_fp8, quant.simulate_fp4):
        once = simulate(x)
        assert once.dtype == dtype
        assert torch.equal(simulate(once), once)


def test_simulation_floor_and_short_last_group() -> None:
    tiny = torch.full((1, 64), 2.0**-33)
    assert bool((quant.simulate_fp8(tiny) == 0).all())  # scale stays 2^-22, so the smallest step is 2^-31
    assert torch.equal(quant.simulate_fp4(tiny), tiny)
    x = torch.randn(2, 100)
    assert torch.equal(quant.simulate_fp8(x)[:, 64:], quant.simulate_fp8(x[:, 64:]))
    assert torch.equal(quant.simulate_fp8(x[:0]), x[:0])


def test_groups_do_not_touch_each_other() -> None:
    x = torch.randn(1, 128)
    louder = x.clone()
    louder[0, 64] = 1e4
    assert torch.equal(quant.simulate_fp8(x)[:, :64], quant.simulate_fp8(louder)[:, :64])
    louder[0, 64] = math.inf
    simulated = quant.simulate_fp8(louder)
    assert bool(simulated[:, 64:].isnan().all())
    assert bool(simulated[:, :64].isfinite().all())


def test_gradient_passes_straight_through() -> None:
    for simulate in (quant.simulate_fp8, quant.simulate_fp4):
        x = torch.randn(3, 70, requires_grad=True)
        weight = torch.randn(3, 70)
        (simulate(x) * weight).sum().backward()
        assert x.grad is not None
        assert torch.equal(x.grad, weight)


# Cache rows


@pytest.mark.parametrize(("width", "rope"), [(512, 64), (128, 32), (40, 16), (32, 0), (24, 24)])
def test_fp8_rows_hold_exactly_the_simulated_values(width: int, rope: int) -> None:
    x = torch.randn(9, width) * torch.logspace(-3, 3, 9)[:, None]
    rows = quant.encode_rows_fp8(x, rope)
    assert (rows.dtype, tuple(rows.shape)) == (
        torch.uint8,
        (9, main_row_bytes(RowFormat.FP8, width=width, rope=rope)),
    )
    back = quant.decode_rows_fp8(rows, width, rope)
    plain = width - rope
    assert torch.equal(back[:, :plain], quant.simulate_fp8(x[:, :plain]))
    assert torch.equal(back[:, plain:], x[:, plain:].bfloat16().float())
    assert torch.equal(quant.decode_rows_fp8(quant.encode_rows_fp8(back, rope), width, rope), back)


def test_fp8_row_has_the_published_bytes() -> None:
    x = torch.zeros(1, 512)
    x[0, :448] = torch.tensor([2.0**g for g in range(7)]).repeat_interleave(64)
    x[0, 448:] = 1.0
    row = quant.encode_rows_fp8(x, 64)[0]
    assert row.shape == (584,)
    assert row[:448].tolist() == [0x78] * 448  # each group's maximum is stored as 256 * 2^-8
    assert row[448:576].tolist() == [0x80, 0x3F] * 64
    assert row[576:].tolist() == [119, 120, 121, 122, 123, 124, 125, 0]


def test_fp8_rows_stay_within_a_sixteenth() -> None:
    x = torch.randn(500, 512)
    back = quant.decode_rows_fp8(quant.encode_rows_fp8(x, 64), 512, 64)
    plain, rope = (back - x)[:, :448], (back - x)[:, 448:]
    assert bool((plain.abs() <= torch.maximum(x[:, :448].abs() / 16, torch.tensor(2.0**-16))).all())
    assert bool((rope.abs() <= x[:, 448:].abs() / 256).all())


@pytest.mark.parametrize(("width", "rope"), [(512, 64), (128, 32), (64, 16), (40, 16), (32, 0), (24, 24), (336, 80)])
def test_fp4_entries_hold_exactly_the_simulated_values(width: int, rope: int) -> None:
    x = torch.randn(9, width) * torch.logspace(-3, 3, 9)[:, None]
    rows = quant.encode_main_fp4(x, rope)
    assert (rows.dtype, tuple(rows.shape)) == (
        torch.uint8,
        (9, main_row_bytes(RowFormat.FP4, width=width, rope=rope)),
    )
    back = quant.decode_main_fp4(rows, width, rope)
    plain = width - rope
    assert torch.equal(bits(back[:, :plain]), bits(quant.simulate_fp4(x[:, :plain])))
    assert torch.equal(bits(back[:, plain:]), bits(quant.simulate_fp8(x[:, plain:], 32)))
    assert torch.equal(quant.decode_main_fp4(quant.encode_main_fp4(back, rope), width, rope), back)


def test_fp4_entry_has_its_bytes_in_their_places() -> None:
    x = torch.zeros(1, 512)
    x[0, :448] = torch.tensor([2.0**g for g in range(14)]).repeat_interleave(32)
    x[0, 1:448:2] *= -1.5
    x[0, 448:480], x[0, 480:] = 1.0, -2.0
    row = quant.encode_main_fp4(x, 64)[0]
    assert row.shape == (304,)
    assert row[:224].tolist() == [0xF6] * 224  # 4 and -6 times the scale: codes 6 and 8 + 7
    assert row[224:288].tolist() == [0x78] * 32 + [0xF8] * 32  # 256 * 2^-8, -256 * 2^-7
    assert row[288:302].tolist() == [125 + g for g in range(14)]
    assert row[302:].tolist() == [119, 120]


def test_fp4_entries_stay_within_a_scale_and_a_sixteenth() -> None:
    x = torch.randn(500, 512)
    error = (quant.decode_main_fp4(quant.encode_main_fp4(x, 64), 512, 64) - x).abs()
    groups = x[:, :448].abs().unflatten(-1, (14, 32)).amax(-1)
    widest = torch.exp2(torch.ceil(torch.log2(groups / 6)))  # half of the step between 4 and 6, times the scale
    assert bool((error[:, :448] <= widest.repeat_interleave(32, 1)).all())
    assert bool((error[:, 448:] <= torch.maximum(x[:, 448:].abs() / 16, torch.tensor(2.0**-16))).all())
    assert float(error[:, :448].square().mean().sqrt()) < 0.15  # of normal numbers


def test_index_rows_hold_exactly_the_simulated_values() -> None:
    x = torch.randn(11, 128)
    four, eight = quant.encode_rows_fp4(x), quant.encode_index_fp8(x)
    assert four.shape == (11, index_row_bytes(RowFormat.FP4, width=128)) == (11, 68)
    assert eight.shape == (11, index_row_bytes(RowFormat.FP8, width=128)) == (11, 132)
    assert torch.equal(quant.decode_rows_fp4(four, 128), quant.simulate_fp4(x))
    assert torch.equal(quant.decode_index_fp8(eight, 128), quant.simulate_fp8(x, 128))
    packed, scale = quant.fp4_pack(x)
    assert torch.equal(four, torch.cat((packed.view(torch.uint8), scale), 1))
    error = (quant.decode_rows_fp4(four, 128) - x).abs().unflatten(-1, (-1, 32))
    assert bool((error <= quant.scale_values(scale)[..., None]).all())  # half of the widest step, 2, times the scale


def test_rows_of_no_entries_and_rows_cut_from_a_wider_table() -> None:
    assert quant.decode_rows_fp8(quant.encode_rows_fp8(torch.zeros(0, 512), 64), 512, 64).shape == (0, 512)
    assert quant.decode_rows_fp4(quant.encode_rows_fp4(torch.zeros(0, 64)), 64).shape == (0, 64)
    assert quant.decode_index_fp8(quant.encode_index_fp8(torch.zeros(0, 64)), 64).shape == (0, 64)
    assert quant.decode_main_fp4(quant.encode_main_fp4(torch.zeros(0, 64), 16), 64, 16).shape == (0, 64)
    x = torch.randn(6, 64)
    rows = torch.cat((torch.zeros(6, 3, dtype=torch.uint8), quant.encode_rows_fp8(x, 16)), 1)[::2, 3:]
    alone = quant.encode_rows_fp8(x[::2], 16)
    assert torch.equal(quant.decode_rows_fp8(rows, 64, 16), quant.decode_rows_fp8(alone, 64, 16))
    rows = torch.cat((torch.zeros(6, 3, dtype=torch.uint8), quant.encode_main_fp4(x, 16)), 1)[::2, 3:]
    alone = quant.encode_main_fp4(x[::2], 16)
    assert torch.equal(quant.decode_main_fp4(rows, 64, 16), quant.decode_main_fp4(alone, 64, 16))


def test_a_non_finite_entry_decodes_as_nan() -> None:
    x = torch.ones(1, 64)
    x[0, 3] = math.inf
    assert bool(quant.decode_rows_fp4(quant.encode_rows_fp4(x), 64)[0, :32].isnan().all())
    assert bool(quant.decode_rows_fp8(quant.encode_rows_fp8(x, 0), 64, 0).isnan().all())
    assert bool(quant.decode_index_fp8(quant.encode_index_fp8(x), 64).isnan().all())
    back = quant.decode_main_fp4(quant.encode_main_fp4(x, 16), 64, 16)[0]
    assert bool(back[:32].isnan().all())
    assert back[32:].tolist() == [1.0] * 32
    x[0, 3], x[0, 50] = 1.0, math.nan
    back = quant.decode_main_fp4(quant.encode_main_fp4(x, 16), 64, 16)[0]
    assert back[:48].tolist() == [1.0] * 48
    assert bool(back[48:].isnan().all())


def test_wrong_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="rows have 583 bytes; a row of width 512 has 584"):
        quant.decode_rows_fp8(torch.zeros(1, 583, dtype=torch.uint8), 512, 64)
    with pytest.raises(ValueError, match="width is 48"):
        quant.encode_rows_fp4(torch.zeros(1, 48))
    with pytest.raises(ValueError, match="rope_dims is 65"):
        quant.encode_rows_fp8(torch.zeros(1, 64), 65)
    with pytest.raises(ValueError, match="rows have 64 bytes; a row of width 64 has 68"):
        quant.decode_index_fp8(torch.zeros(1, 64, dtype=torch.uint8), 64)
    with pytest.raises(ValueError, match="rows have 303 bytes; a row of width 512 has 304"):
        quant.decode_main_fp4(torch.zeros(1, 303, dtype=torch.uint8), 512, 64)
    with pytest.raises(ValueError, match="rope_dims is 3 of 64 channels; the others are 61"):
        quant.encode_main_fp4(torch.zeros(1, 64), 3)
    with pytest.raises(ValueError, match="group is 0"):
        quant.simulate_fp8(torch.zeros(1, 64), group=0)


def test_weights_agree_with_the_dequantiser_of_transformers() -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    other = Fp8Dequantize(None)
    w = torch.randn(256, 384)
    q, scale = quant.fp8_quantize_blocks(w)
    theirs = other._dequantize_one(q, scale.view(torch.float8_e8m0fnu), torch.bfloat16)
    assert torch.equal(quant.fp8_dequantize_blocks(q, scale).bfloat16(), theirs)
    packed, scale = quant.fp4_pack(w)
    theirs = other._dequantize_one(packed, scale.view(torch.float8_e8m0fnu), torch.float32)
    assert torch.equal(bits(quant.fp4_unpack(packed, scale)), bits(theirs))
