"""Costs of one token against hand arithmetic at the official sizes."""

from dataclasses import replace

import pytest

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.config.hardware import hardware
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, pro, xs
from octavo.engine.cost import (
    decode_seconds,
    experts_hit,
    offloaded_seconds,
    prefill_seconds_per_token,
    token_bytes,
    token_flops,
)

K = 1024


@pytest.mark.parametrize(
    ("config", "context", "gflop"),
    [
        (flash(), 4 * K, (26.5, 0.35, 1.41, 0.08, 0.72)),
        (flash(), 1024 * K, (26.5, 90.2, 1.41, 21.5, 0.72)),
        (pro(), 64 * K, (97.7, 8.1, 8.05, 4.2, 2.05)),
        (pro(), 1024 * K, (97.7, 128.9, 8.05, 66.6, 2.05)),
    ],
)
def test_operations(config: ModelConfig, context: int, gflop: tuple[float, ...]) -> None:
    found = token_flops(config, context)
    parts = (found.weights, found.index, found.chosen, found.hca, found.window)
    assert [part / 1e9 for part in parts] == pytest.approx(gflop, rel=0.02, abs=0.006)
    assert found.total == sum(parts)
    assert found.attention == sum(parts[2:])


def test_cache_bytes_read() -> None:
    moved = token_bytes(CacheLayout(flash(), RowFormat.FP8, RowFormat.FP8), 1024 * K, weight_bytes=11.4e9)
    parts = [moved.index / 1e6, moved.chosen / 1e6, moved.hca / 1e6, moved.window / 1e6]
    assert parts == pytest.approx([727, 6.3, 96, 3.2], rel=0.01)
    assert moved.total == moved.weights + moved.cache
    small = token_bytes(CacheLayout(flash(), RowFormat.FP4, RowFormat.FP8), 1024 * K, weight_bytes=11.4e9)
    assert (small.index, small.window) == (moved.index, moved.window)  # window rows are FP8 too
    assert small.hca / moved.hca == small.chosen / moved.chosen == 304 / 584


def test_short_contexts_see_what_there_is() -> None:
    found = token_flops(xs(), 100)
    per_key = 4 * 4 * 128
    assert (found.hca, found.window, found.chosen) == (0, 6 * 100 * per_key, 3 * 25 * per_key)
    assert found.index == 3 * 4 * 64 * 2 * 25


@pytest.mark.parametrize(
    ("config", "context", "bf16_us", "fp8_us", "cpu_s"),
    [
        (flash(), 4 * K, 36, 22, 0.19),
        (flash(), 256 * K, 53, 33, 0.28),
        (flash(), 1024 * K, 106, 67, 0.56),
        (pro(), 1024 * K, 257, 170, 1.37),
    ],
)
def test_prefill_bounds(config: ModelConfig, context: int, bf16_us: float, fp8_us: float, cpu_s: float) -> None:
    gpu, cpu = hardware("h100"), hardware("cpu2")
    assert prefill_seconds_per_token(config, context, gpu, fp8=False) * 1e6 == pytest.approx(bf16_us, rel=0.02)
    assert prefill_seconds_per_token(config, context, gpu, fp8=True) * 1e6 == pytest.approx(fp8_us, rel=0.02)
    assert prefill_seconds_per_token(config, context, cpu, fp8=False) == pytest.approx(cpu_s, rel=0.02)
    four = prefill_seconds_per_token(config, context, hardware("h100x4"), fp8=False)
    assert four * 4e6 == pytest.approx(bf16_us, rel=0.02)


def test_decode_is_bound_by_bytes_or_by_arithmetic() -> None:
    layout, gpu, cpu = CacheLayout(flash(), RowFormat.FP8, RowFormat.FP8), hardware("h100"), hardware("cpu2")
    flops, moved = token_flops(flash(), 1024 * K), token_bytes(layout, 1024 * K, weight_bytes=11.4e9)
    assert decode_seconds(flops, moved, gpu, fp8=True) == pytest.approx(moved.total / 3.0e12)
    assert decode_seconds(flops, moved, gpu, fp8=True) * 1e3 == pytest.approx(4.07, rel=0.01)
    assert decode_seconds(flops, moved, cpu, fp8=False) == pytest.approx(flops.total / 150e9)
    assert decode_seconds(flops, moved, cpu, fp8=False) == pytest.approx(0.94, rel=0.01)


def test_two_levels_score_coarse_keys_and_the_best_blocks() -> None:
    config = xs().changed(index_levels=2, index_block_tokens=32, index_blocks=10)
    scored = 3 * (1024 * K // 32 + 4 * 10 * 8)  # coarse keys by one head, others by four
    assert token_flops(config, 1024 * K).index == 2.0 * 64 * scored
    read = 3 * (1024 * K // 32 * (32 + 4) + 10 * 8 * 4 * 64)  # coarse keys in four bits with a scale, others FP32
    assert token_bytes(CacheLayout(config), 1024 * K, weight_bytes=0).index == read
    assert token_flops(config, 64).index == 2.0 * 64 * 3 * 4 * 16, "so few tokens choose among all entries"
    early = config.changed(index_from_tokens=0)
    assert token_flops(early, 320).index == 2.0 * 64 * 3 * 4 * 80, "all of 10 blocks are looked into"
    assert token_flops(early, 363).index == 2.0 * 64 * 3 * (11 + 4 * (10 * 8 + 2)), "two entries have no block yet"


@pytest.mark.parametrize("levels", [{}, {"index_from_tokens": 0}, {"index_block_tokens": 32, "index_blocks": 64}])
def test_a_longer_document_takes_longer_where_two_levels_begin(levels: dict[str, int]) -> None:
    config, cpu = xs().changed(index_levels=2, **levels), hardware("cpu2")
    begin = config.levels.begin if config.levels is not None else 0
    lengths = [begin - 1, begin, begin + 16, begin + 1024, 2 * begin]
    seconds = [length * prefill_seconds_per_token(config, length, cpu, fp8=False) for length in lengths]
    assert seconds == sorted(seconds)
    exact = prefill_seconds_per_token(xs(), begin - 1, cpu, fp8=False)
    assert seconds[0] == pytest.approx((begin - 1) * exact), "up to there every key is scored by all heads"
    assert seconds[-1] < 2 * begin * prefill_seconds_per_token(xs(), 2 * begin, cpu, fp8=False)


def test_prefill_in_two_levels_is_the_sum_of_its_tokens() -> None:
    one, cpu, context = xs(), hardware("cpu2"), 8192
    two = one.changed(index_levels=2, index_blocks=64, index_from_tokens=1024)
    seconds = [context * prefill_seconds_per_token(config, context, cpu, fp8=False) for config in (one, two)]
    flops = [sum(token_flops(config, end).index for end in range(1, context + 1)) for config in (one, two)]
    assert seconds[0] - seconds[1] == pytest.approx((flops[0] - flops[1]) / cpu.wide_flops, rel=0.01)


def test_a_step_with_experts_on_disk_waits_or_keeps_the_disk_busy() -> None:
    machine = replace(hardware("cpu2"), disk_bandwidth=2e9)
    assert offloaded_seconds(0.5, 0.0, machine, guess_share=0.3) == 0.5
    assert offloaded_seconds(0.5, 1e9, machine, guess_share=0.8) == pytest.approx(0.5 + 0.2 * 0.5)
    assert offloaded_seconds(0.1, 4e9, machine, guess_share=0.8) == pytest.approx(1.2 * 2.0)
    assert offloaded_seconds(0.1, 4e9, machine, guess_share=0.0) == pytest.approx(2 * 2.0)


def test_experts_hit_by_some_tokens() -> None:
    assert experts_hit(flash(), 1) == pytest.approx(6)
    assert experts_hit(flash(), 2) == pytest.approx(12 - 36 / 256)
    assert experts_hit(flash(), 4096) == pytest.approx(256)
