"""FSDP2: every layout trains as one process does, and each rank holds its part."""

from __future__ import annotations

import math

import pytest
import torch.distributed as dist

from octavo.config.errors import UsageError
from octavo.train.parallel import sharding
from octavo.train.parallel.layout import Layout
from octavo.train.parallel.mesh import Mesh
from octavo.train.parallel.ranks import Ranks
from tests.support.spread_run import FROM_PLAIN, FROM_SPREAD, SAVED, STEPS, UNEVEN, WHOLE, begin
from tests.train.parallel.conftest import Spread


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch, one_rank: dist.ProcessGroup) -> None:
    model, _ = begin(Ranks())
    monkeypatch.delattr(sharding.FSDPModule, "set_reduce_scatter_unused_params")
    with pytest.raises(UsageError, match=r"parallel needs PyTorch 2\.13 or newer; this is "):
        sharding.shard(model, Mesh.make(Layout(), "cpu"))


def same(found: list[dict[str, float]], wanted: list[dict[str, float]]) -> None:
    """Losses to 1e-5, norms to 1e-4, loads and counts exactly."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert all(math.isfinite(value) for value in one.values())
        for name in ("loss", "mtp", "index", "balance"):
            assert one[name] == pytest.approx(other[name], abs=1e-5), name
        assert one["norm"] == pytest.approx(other["norm"], abs=1e-4)
        assert (one["load"], one["asked"]) == (other["load"], other["asked"])


@pytest.mark.parametrize("name", WHOLE)
def test_five_steps_are_those_of_one_process(spread: Spread, name: str) -> None:
    ranks = spread.said(name)
    assert len(spread.alone["steps"]) == STEPS
    for found in ranks:
        same(found["steps"], spread.alone["steps"])
    assert len({step["loss"] for step in spread.alone["steps"]}) == STEPS
    held = [found["held"] for found in ranks]
    assert sum(held) == spread.alone["held"]
    assert max(held) < 1.05 * spread.alone["held"] / len(held)


@pytest.mark.parametrize("name", WHOLE)
def test_weights_are_those_of_one_process(spread: Spread, name: str) -> None:
    """In the mean: where a gradient is nothing but rounding, Adam makes a step of it."""
    alone, found = spread.weights("alone"), spread.weights(name)
    assert found.keys() == alone.keys()
    away = sum(float((found[key].double() - value.double()).square().sum()) for key, value in alone.items())
    size = sum(float(value.double().square().sum()) for value in alone.values())
    assert math.sqrt(away / size) < 1e-3


@pytest.mark.parametrize("name", UNEVEN)
def test_a_parameter_that_one_rank_does_not_use_stops_nobody(spread: Spread, name: str) -> None:
    """Two ranks' rows have no HCA entry; two experts get no token."""
    for found in spread.said(name):
        same([found["uneven"]], [spread.alone["uneven"]])


@pytest.mark.parametrize("name", [*FROM_SPREAD, *FROM_PLAIN])
def test_runs_go_on_in_another_layout(spread: Spread, name: str) -> None:
    for found in spread.said(name):
        same(found["later"], spread.alone["steps"][SAVED:])
