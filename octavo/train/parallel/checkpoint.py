"""Checkpoints of runs whose parameters are spread over ranks, readable in any other layout.

Covers: writing every rank's rows through `torch.distributed.checkpoint` with checksums and an atomic rename, reading
them into as many or other ranks, in this layout or another or in one process; reading a checkpoint of one process into
a spread run; the whole weights for the release format. Does not cover: what a checkpoint holds beside tensors
(`octavo.train.checkpoint`).

A tensor is written under its name as it is in one process; an expert's place in the stack is its global one.
"""

# torch publishes these names without listing them.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from octavo.config.errors import CheckpointError
from octavo.model.transformer import Transformer
from octavo.train import checkpoint as plain
from octavo.train.checkpoint import Part
from octavo.train.optim import Optimizer
from octavo.train.parallel.ranks import Ranks, local

_REST = "rest.safetensors"


def is_spread(folder: Path) -> bool:
    """Whether this checkpoint was written by `save` of this module."""
    return (plain.found_folder(folder) / ".metadata").exists()


def save(
    folder: Path, model: Transformer, optimizer: Optimizer, ranks: Ranks, *, step: int, recipe: str,
    parts: Mapping[str, Part],
) -> None:  # fmt: skip
    """As `octavo.train.checkpoint.save`, by all ranks together; `parts` are the first rank's."""
    work = folder.with_name(folder.name + ".part")
    error = _first_does(ranks, lambda: _emptied(work))
    if error is None:
        error = _all_do(ranks, lambda: _write(work, _tensors(model, optimizer, ranks)))
    if error is None:
        error = _first_does(ranks, lambda: _finish(folder, work, model, optimizer, step, recipe, parts))
    if error is not None:
        _first_does(ranks, lambda: shutil.rmtree(work, ignore_errors=True))
        raise plain.unwritten(folder, step, error)


def load(
    folder: Path, model: Transformer, optimizer: Optimizer, ranks: Ranks, *, recipe: str, parts: Mapping[str, Part]
) -> int:
    """As `octavo.train.checkpoint.load`, by all ranks together, of a checkpoint of either kind."""
    folder = plain.found_folder(folder)
    meta = plain.read_meta(folder, model, recipe=recipe, parts=parts)
    targets = _tensors(model, optimizer, ranks)
    if is_spread(folder):
        mine = meta["shards"][ranks.index :: ranks.count]
        error = _all_do(ranks, lambda: _check(folder, mine))
        if error is not None:
            raise CheckpointError(error)
        rest = load_file(folder / _REST)
        _read(folder, targets)
    else:
        rest = plain.read_shards(folder, meta["shards"])
        if missing := sorted(targets.keys() - rest.keys()):
            raise CheckpointError(f"{folder}: tensor {missing[0]} is missing")
        for name, target in targets.items():
            local(target).copy_(_own_rows(rest[name], target))
    optimizer.step_count = meta["optimizer_steps"]
    plain.restore_rest(rest, meta, parts)
    return meta["step"]


def whole_weights(model: Transformer, ranks: Ranks) -> dict[str, Tensor]:
    """The model's state with every tensor whole, in host memory of the first rank; empty on the others. Collective."""
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        whole = _gathered(_placed(name, value, value, ranks))
        if ranks.first:
            state[name] = whole.detach().cpu()
    return state


def _gathered(tensor: Tensor) -> Tensor:
    """The whole tensor, brought together along one dimension of the mesh after the other."""
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    for dim in reversed(range(len(placements))):
        placements[dim] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return tensor.to_local()


def _tensors(model: Transformer, optimizer: Optimizer, ranks: Ranks) -> dict[str, Tensor]:
    """Everything that is spread, and the buffers, by name; writing to them writes to the run."""
    state = model.state_dict()
    tensors = {f"model.{name}": _placed(name, value, value, ranks) for name, value in state.items()}
    for name, kinds in optimizer.state.items():
        tensors |= {f"optim.{kind}.{name}": _placed(name, state[name], held, ranks) for kind, held in kinds.items()}
    return tensors


def _placed(name: str, parameter: Tensor, held: Tensor, ranks: Ranks) -> Tensor:
    """`held`, this rank's rows of a tensor that lies as `parameter` does, as a part of the whole one."""
    if not isinstance(parameter, DTensor) or ranks.mesh is None:
        return held
    mesh, placements, shape = parameter.device_mesh, tuple(parameter.placements), parameter.shape
    if ".ffn.experts." in name:  # of the experts of this rank's group, which has a part of all
        mesh, placements = ranks.mesh.experts["ep", "shard"], (Shard(0), Shard(0))
        shape = torch.Size((shape[0] * ranks.mesh.layout.ep, *shape[1:]))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local(held), mesh, placements, run_check=False, shape=shape, stride=stride)


def _own_rows(whole: Tensor, target: Tensor) -> Tensor:
    if not isinstance(target, DTensor):
        return whole
    given = whole.to(target.device)
    # every rank has the whole tensor, so that nothing needs to be sent
    return distribute_tensor(given, target.device_mesh, target.placements, src_data_rank=None).to_local()


def _write(work: Path, tensors: dict[str, Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about one process without a group
        dcp.save(tensors, checkpoint_id=work, no_dist=not dist.is_initialized())


def _read(folder: Path, targets: dict[str, Tensor]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(targets, checkpoint_id=folder, no_dist=not dist.is_initialized())
    except (dcp.CheckpointException, RuntimeError, OSError) as error:
        first = next(iter(str(error).strip().splitlines()), "unreadable")
        raise CheckpointError(f"{folder}: {first}") from error


def _finish(
    folder: Path, work: Path, model: Transformer, optimizer: Optimizer, step: int, recipe: str,
    parts: Mapping[str, Part],
) -> None:  # fmt: skip
    rest, values = plain.rest_of(parts)
    save_file({name: value.detach().cpu().contiguous() for name, value in rest.items()}, work / _REST)
    files = sorted(path for path in work.iterdir() if path.is_file())
    plain.write_meta(work, files, model, optimizer, step=step, recipe=recipe, values=values)
    plain.replace_folder(folder, work)


def _check(folder: Path, shards: list[dict[str, str]]) -> None:
    for shard in shards:
        plain.checked(folder, shard)


def _emptied(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)


def _first_does(ranks: Ranks, work: Callable[[], None]) -> str | None:
    """Let the first rank do something; all learn what went wrong."""
    return _all_do(ranks, work if ranks.first else lambda: None)


def _all_do(ranks: Ranks, work: Callable[[], None]) -> str | None:
    """Let every rank do something; all learn what went wrong first."""
    why: str | None = None
    try:
        work()
    except (dcp.CheckpointException, CheckpointError, RuntimeError, OSError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if ranks.count == 1:
        return why
    every: list[str | None] = [None] * ranks.count
    dist.all_gather_object(every, why)
    return next((one for one in every if one is not None), None)
