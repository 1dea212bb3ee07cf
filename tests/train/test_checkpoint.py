"""Training checkpoints: exact round trip, named damage, and a kill at every moment of a save."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.model.transformer import Transformer
from octavo.train import checkpoint
from octavo.train.optim import Optimizer
from octavo.train.step import LossWeights, train_step
from tests.support.training import fresh, plan_of, random_batch, small_config


@pytest.fixture(autouse=True)
def _many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_SHARD_BYTES", 20_000)


def run(steps: int = 2, seed: int = 0) -> tuple[Transformer, Optimizer]:
    """A model and its optimiser after a few steps, so that no state is at its start."""
    model, optimizer = fresh(seed=seed)
    for i in range(steps):
        train_step(model, optimizer, [random_batch(2, seed=seed + i)], plan_of(), LossWeights(bias_speed=0.1))
    return model, optimizer


def everything(model: Transformer, optimizer: Optimizer) -> dict[str, Tensor]:
    state = {f"{name} {kind}": v.clone() for name, kinds in optimizer.state.items() for kind, v in kinds.items()}
    return state | {name: v.clone() for name, v in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    model, optimizer = run(3)
    checkpoint.save(tmp_path / "c", model, optimizer, step=17, recipe="r")
    twin, twin_optimizer = fresh(seed=9)
    assert checkpoint.load(tmp_path / "c", twin, twin_optimizer, recipe="r") == 17
    assert same(everything(model, optimizer), everything(twin, twin_optimizer))
    assert twin_optimizer.step_count == 3
    assert any(name.endswith("gate.bias") and v.any() for name, v in twin.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]
    for batch_seed in (50, 51):
        for m, o in ((model, optimizer), (twin, twin_optimizer)):
            train_step(m, o, [random_batch(2, seed=batch_seed)], plan_of(), LossWeights())
    assert same(everything(model, optimizer), everything(twin, twin_optimizer))


def test_shards_stay_below_the_limit_and_a_later_save_replaces_the_earlier(tmp_path: Path) -> None:
    model, optimizer = run(1)
    folder = tmp_path / "c"
    checkpoint.save(folder, model, optimizer, step=1, recipe="r")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 5
    largest = max(v.nbytes for v in everything(model, optimizer).values())
    assert all(path.stat().st_size < max(20_000, largest) + 10_000 for path in shards)
    (folder / "stray").touch()
    checkpoint.save(folder, model, optimizer, step=2, recipe="r")
    assert not (folder / "stray").exists()
    assert checkpoint.load(folder, model, optimizer, recipe="r") == 2


def test_a_tied_head_is_saved_once_more_and_read_back(tmp_path: Path) -> None:
    config = small_config(tie_word_embeddings=True)
    model, optimizer = fresh(config)
    checkpoint.save(tmp_path / "c", model, optimizer, step=1, recipe="r")
    twin, twin_optimizer = fresh(config, seed=1)
    checkpoint.load(tmp_path / "c", twin, twin_optimizer, recipe="r")
    assert twin.head.weight is twin.embed.weight
    assert torch.equal(twin.embed.weight, model.embed.weight)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads((folder / "checkpoint.json").read_text())
    change(meta)
    (folder / "checkpoint.json").write_text(json.dumps(meta))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda c: (c / "state-002.safetensors").unlink(), r"state-002\.safetensors: shard is missing"),
    "altered shard": (lambda c: flip_a_bit(c / "state-003.safetensors"), r"state-003\.safetensors: checksum differs"),
    "cut shard": (
        lambda c: (c / "state-001.safetensors").write_bytes((c / "state-001.safetensors").read_bytes()[:-1]),
        r"state-001\.safetensors: checksum differs",
    ),
    "unlisted shard": (lambda c: edit(c, lambda m: m["shards"].pop(0)), r"tensor \S+ is missing"),
    "no list": (lambda c: (c / "checkpoint.json").unlink(), r"checkpoint\.json: .*No such file"),
    "cut list": (lambda c: (c / "checkpoint.json").write_text('{"step": 1'), r"checkpoint\.json: "),
    "no step": (lambda c: edit(c, lambda m: m.pop("step")), r"checkpoint\.json: field 'step' is missing"),
    "other recipe": (
        lambda c: edit(c, lambda m: m.update(recipe="x")),
        r"checkpoint of recipe 'x', asked to resume 'r'",
    ),
    "other model": (
        lambda c: edit(c, lambda m: m["config"].update(index_topk=5)),
        r"config field index_topk is 5, the recipe's model has 4",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_nothing_is_changed(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    model, optimizer = run(1)
    checkpoint.save(tmp_path / "c", model, optimizer, step=1, recipe="r")
    damage(tmp_path / "c")
    twin, twin_optimizer = fresh(seed=9)
    before = everything(twin, twin_optimizer)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "c", twin, twin_optimizer, recipe="r")
    assert same(before, everything(twin, twin_optimizer))


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_after(patch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Let `count` writing operations of a save happen and end the process instead of the next; returns their names."""
    done: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(done) == count:
                raise Killed
            done.append(name)
            return function(*args, **kwargs)

        return call

    patch.setattr(checkpoint, "save_file", counted("shard", checkpoint.save_file))
    patch.setattr(shutil, "rmtree", counted("remove", shutil.rmtree))
    for name in ("rename", "write_text", "mkdir"):
        patch.setattr(Path, name, counted(name, getattr(Path, name)))
    return done


@pytest.mark.parametrize("only_old", [False, True], ids=["usual", "after an earlier kill"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_state(
    only_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_SHARD_BYTES", 80_000)
    (old, old_optimizer), (new, new_optimizer) = run(1), run(2, seed=4)
    states = {1: everything(old, old_optimizer), 2: everything(new, new_optimizer)}
    reader, reader_optimizer = fresh(seed=9)
    for count in range(100):
        folder = tmp_path / str(count) / "c"
        checkpoint.save(folder, old, old_optimizer, step=1, recipe="r")
        if only_old:
            folder.rename(folder.with_name("c.old"))
        finished = False
        with pytest.MonkeyPatch.context() as patch:
            done = kill_after(patch, count)
            try:
                checkpoint.save(folder, new, new_optimizer, step=2, recipe="r")
                finished = True
            except Killed:
                pass
        step = checkpoint.load(folder, reader, reader_optimizer, recipe="r")
        assert same(states[step], everything(reader, reader_optimizer))
        checkpoint.save(folder, reader, reader_optimizer, step=3, recipe="r")  # and the run goes on
        assert checkpoint.load(folder, reader, reader_optimizer, recipe="r") == 3
        shutil.rmtree(folder.parent)
        if finished:
            assert step == 2
            assert done.count("rename") == (1 if only_old else 2)
            return
    pytest.fail("the save never came to its end")


class Kept:
    """A part of a run with one tensor and one value."""

    def __init__(self, value: float) -> None:
        self.tensor, self.name = torch.full((3,), value), f"of {value}"

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"deep.tensor": self.tensor}, {"name": self.name}

    def check(self, values: Mapping[str, Any]) -> None:
        if not values["name"].startswith("of "):
            raise CheckpointError(f"name is {values['name']}")

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.tensor, self.name = tensors["deep.tensor"], values["name"]


def test_parts_and_random_states_come_back(tmp_path: Path) -> None:
    model, optimizer = run(1)
    torch.manual_seed(5)
    checkpoint.save(tmp_path / "c", model, optimizer, step=1, recipe="r", parts={"a": Kept(1.5), "b": Kept(2.0)})
    draw = torch.rand(4)
    a, b = Kept(0.0), Kept(0.0)
    checkpoint.load(tmp_path / "c", model, optimizer, recipe="r", parts={"a": a, "b": b})
    assert torch.equal(torch.rand(4), draw)
    assert (a.tensor.tolist(), a.name, b.tensor.tolist(), b.name) == ([1.5] * 3, "of 1.5", [2.0] * 3, "of 2.0")


def test_a_part_that_is_missing_or_of_another_run_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    model, optimizer = run(1)
    checkpoint.save(tmp_path / "c", model, optimizer, step=1, recipe="r", parts={"a": Kept(1.5)})
    twin, twin_optimizer = fresh(seed=9)
    before, part = everything(twin, twin_optimizer), Kept(0.0)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: part 'b' is missing"):
        checkpoint.load(tmp_path / "c", twin, twin_optimizer, recipe="r", parts={"a": part, "b": Kept(0.0)})
    edit(tmp_path / "c", lambda m: m["parts"]["a"].update(name="else"))
    with pytest.raises(CheckpointError, match="name is else"):
        checkpoint.load(tmp_path / "c", twin, twin_optimizer, recipe="r", parts={"a": part})
    assert same(before, everything(twin, twin_optimizer))
    assert part.name == "of 0.0"


def test_what_cannot_be_written_is_said_and_the_one_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = run(1)
    folder = tmp_path / "c"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "sync", full)
    with pytest.raises(CheckpointError, match=r"step 1 cannot be written; there was none before: .*No space left"):
        checkpoint.save(folder, model, optimizer, step=1, recipe="r")
    monkeypatch.undo()
    checkpoint.save(folder, model, optimizer, step=2, recipe="r")
    monkeypatch.setattr(checkpoint, "sync", full)
    with pytest.raises(CheckpointError, match=r"step 3 cannot be written; the one before is kept: .*No space left"):
        checkpoint.save(folder, model, optimizer, step=3, recipe="r")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert checkpoint.load(folder, model, optimizer, recipe="r") == 2
