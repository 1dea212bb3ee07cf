"""The plan: what it says is held is what models hold, and what is sent follows from the degrees."""

from __future__ import annotations

import pytest

from octavo.config.errors import UsageError
from octavo.config.presets import flash
from octavo.train.parallel import plan
from octavo.train.parallel.layout import Layout
from tests.support.spread_run import config
from tests.support.training import fresh


def test_what_is_held_is_what_a_model_holds() -> None:
    model, optimizer = fresh(config())
    held = plan.cost(config(), Layout(), tokens=256).held
    size = sum(4 * p.numel() for p in model.parameters())
    assert (held["weights, FP32"], held["gradients, FP32"]) == (size, size)
    kinds = [(kind, value.nbytes) for state in optimizer.state.values() for kind, value in state.items()]
    assert held["Muon's momentum, FP32"] == sum(n for kind, n in kinds if kind == "momentum")
    assert held["Adam's moments, FP32"] == sum(n for kind, n in kinds if kind != "momentum")


def test_one_rank_sends_nothing() -> None:
    assert plan.cost(config(), Layout(), tokens=256).sent == {}


def test_what_is_sent_follows_from_the_degrees() -> None:
    alone = plan.cost(config(), Layout(ep=2), tokens=256).sent
    assert set(alone) == {
        "dense weights, forward and backward", "dense gradients", "rows to experts and back", "Muon's matrices, BF16"
    }  # fmt: skip
    twice = plan.cost(config(), Layout(ep=2), tokens=256, micro_batches=2).sent
    assert twice["rows to experts and back"] == 2 * alone["rows to experts and back"]
    assert twice["Muon's matrices, BF16"] == alone["Muon's matrices, BF16"]
    # three trips of 2 + 4 bytes, 2 experts a token, 256 tokens of 24 channels, 3 layers and a predictor, half stays
    assert alone["rows to experts and back"] == 3 * 6 * 2 * 256 * 24 * 4 // 2
    spread = plan.cost(config(), Layout(dp=2, fsdp=2, cp=2, ep=2), tokens=256).sent
    assert spread["experts' gradients"] * 2 == spread["experts, forward and backward"]
    assert {"context", "replicas' gradients"} < set(spread)


def test_flash_fits_many_ranks_and_not_one() -> None:
    few, many = (plan.cost(flash(), Layout(fsdp=n, ep=32), tokens=16384) for n in (1, 8))
    assert sum(many.held.values()) < 80e9 < sum(few.held.values())


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    plan.main(["flash", "fsdp=8,ep=32", "--micro-batches", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "flash on 256 ranks, 4194304 tokens a step"
    assert sum(line.startswith("held") for line in lines) == 9
    assert lines[-1].startswith("seconds: ")
    with pytest.raises(UsageError, match="ep is 3"):
        plan.main(["flash", "ep=3"])
