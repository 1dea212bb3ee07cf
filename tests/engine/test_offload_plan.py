"""Predicted rates with experts on disk, by hand arithmetic, and when there is such a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from octavo.config.errors import LimitError, UsageError
from octavo.config.hardware import hardware
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, xs
from octavo.config.tensors import Part, TensorSpec, tensor_specs
from octavo.engine.offload_plan import Room, beside_experts, expert_read_bytes, plan_offload
from octavo.engine.plan import plan

EXPERT = 3 * 4096 * 2048 // 2 + 3 * 4096 * 2048 // 32  # bytes of one of Flash's experts: codes and scales
ROOM = Room(other_bytes=10_000_000_000, decode_seconds=0.5, prefill_seconds=0.2, chunk_tokens=1024)
CPU = replace(hardware("cpu2"), disk_bandwidth=2e9)


def test_decoding_waits_for_what_was_not_guessed() -> None:
    made = plan_offload(flash(), CPU, ROOM, budget="8GB", hit_share=0.75, guess_share=0.6)
    assert made is not None
    missed = 43 * 6 * EXPERT / 4
    assert (made.expert_bytes, made.hit_share) == (EXPERT, 0.75)
    assert made.missed_bytes == pytest.approx(missed)
    assert made.read_bytes == pytest.approx(1.4 * missed)
    assert 1 / made.decode_tokens_per_second == pytest.approx(max(0.5 + 0.4 * missed / 2e9, 1.4 * missed / 2e9))
    assert made.resident_bytes == 18_000_000_000


def test_a_slow_disk_is_what_decoding_takes() -> None:
    slow = replace(CPU, disk_bandwidth=1e8)
    made = plan_offload(flash(), slow, ROOM, budget="8GB", hit_share=0.5, guess_share=1.0)
    assert made is not None
    assert 1 / made.decode_tokens_per_second == pytest.approx(43 * 6 * EXPERT / 2 / 1e8)


def test_a_chunk_reads_the_experts_of_a_layer_once() -> None:
    slow = replace(CPU, disk_bandwidth=1e8)
    made = plan_offload(flash(), slow, ROOM, budget="8GB", hit_share=0.0)
    assert made is not None
    assert 1024 / made.prefill_tokens_per_second == pytest.approx(43 * 256 * EXPERT / 1e8, rel=1e-6)
    few = plan_offload(flash(), slow, replace(ROOM, chunk_tokens=1), budget="8GB", hit_share=0.0)
    assert few is not None
    assert 1 / few.prefill_tokens_per_second == pytest.approx(43 * 6 * EXPERT / 1e8)


def test_hits_are_those_of_a_hot_set_without_favourites() -> None:
    made = plan_offload(flash(), CPU, ROOM, budget="8GB")
    assert made is not None
    total = 44 * 256 * EXPERT  # the draft stage's too
    reserve = 4 * 2 * 6 * EXPERT
    assert made.hit_share == pytest.approx((8e9 - reserve) / total)
    everything = plan_offload(flash(), CPU, ROOM, budget="200GB")
    assert everything is not None
    assert (everything.hit_share, everything.missed_bytes) == (1.0, 0.0)
    assert everything.decode_tokens_per_second == pytest.approx(2.0)
    assert everything.resident_bytes == 10_000_000_000 + total


def test_left_out_a_budget_is_what_memory_leaves_if_that_is_enough() -> None:
    made = plan_offload(flash(), CPU, ROOM, budget=None)
    assert made is not None
    assert made.budget_bytes == CPU.usable_bytes - ROOM.other_bytes
    assert plan_offload(flash(), CPU, replace(ROOM, other_bytes=CPU.usable_bytes), budget=None) is None
    assert plan_offload(flash(), hardware("h100"), ROOM, budget=None) is None


def test_limits() -> None:
    with pytest.raises(UsageError, match="offload_experts needs a CPU; h100 is a gpu"):
        plan_offload(flash(), hardware("h100"), ROOM, budget="8GB")
    with pytest.raises(UsageError, match=r"hit_share is 1\.5; it must be from 0 to 1"):
        plan_offload(flash(), CPU, ROOM, budget="8GB", hit_share=1.5)
    with pytest.raises(UsageError, match="guess_share is -1; it must be from 0 to 1"):
        plan_offload(flash(), CPU, ROOM, budget="8GB", guess_share=-1)
    with pytest.raises(LimitError, match="offload_experts is 1,000 bytes"):
        plan_offload(flash(), CPU, ROOM, budget="1KB")


def test_plan_says_it_when_memory_does_not_hold_the_weights() -> None:
    big = plan("flash", "32K", "cpu2")
    assert big.offload is not None
    assert big.offload.resident_bytes == pytest.approx(hardware("cpu2").usable_bytes)
    rows = {row.name: row for row in big.rows if row.section == "experts on disk"}
    assert rows["in memory"].value == "23.62 GB (22.00 GiB)"
    assert rows["decode"].detail.endswith("read a token at 1 GB/s")
    assert big.as_dict()["offload"]["expert_bytes"] == EXPERT
    assert plan("flash", "32K", "h200x8").offload is None
    assert plan("xs", "32K", "cpu2").offload is None
    asked = plan("xs", "32K", "cpu2", offload_experts="2MB")
    assert asked.offload is not None
    assert asked.offload.budget_bytes == 2_000_000
    measured = plan("flash", "32K", "cpu2", hit_share=0.9, guess_share=1.0)
    assert measured.offload is not None
    assert measured.offload.decode_tokens_per_second > big.offload.decode_tokens_per_second


def test_what_is_beside_the_experts_adds_up() -> None:
    for config in (flash(), xs()):
        stored, read = beside_experts(config, element=None)
        narrow, _ = beside_experts(config, element=2)
        assert (
            stored + sum(s.stored_bytes for s in experts_of(config))
            == plan(config, 1024, weights="stored").weight_bytes
        )
        assert (
            narrow + 2 * sum(s.parameters for s in experts_of(config))
            == plan(config, 1024, weights="bf16").weight_bytes
        )
        assert 0 < read < stored
    assert expert_read_bytes(flash()) == 43 * 6 * EXPERT


def experts_of(config: ModelConfig) -> list[TensorSpec]:
    """Specs of routed experts."""
    return [s for s in tensor_specs(config) if s.part is Part.EXPERTS or (s.part is Part.DRAFT and ".experts." in s.name
            and "shared" not in s.name)]  # fmt: skip
