"""Loading weights into a model that was built on the meta device.

Covers: matching of names, shapes and types before anything is read, one tensor at a time out of memory maps, checks of
values. Does not cover: building the model, containers (`shard.py`), placement on several devices.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from octavo.config.errors import CheckpointError
from octavo.config.model import ModelConfig
from octavo.model.checkpoint import formats, names
from octavo.model.checkpoint.cut import Cut
from octavo.model.checkpoint.folder import Stored, open_folder
from octavo.model.checkpoint.matrix import StoredMatrix
from octavo.model.checkpoint.names import Source
from octavo.model.checkpoint.shard import Entry, Maps

_CHUNK_VALUES = 1 << 18  # values decoded at once: 1 MiB of FP32
_ENGRAM_MAP = "engram_map"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What was loaded: tensors and bytes of the model, files read, and what was left out on purpose, and why.

    `left` has, by name, the parameters that were to stay on disk: one matrix [rows, width] for each expert of a stacked
    one, a single matrix else.
    """

    is_official: bool
    tensors: int
    model_bytes: int
    files: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    left: dict[str, tuple[StoredMatrix, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A tensor of the model: all its names (more than one when tied), whole shape, dtype to load as; `cut` is the part
    of it that the model has, None for all."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    cut: Cut | None

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def kept(self) -> tuple[int, ...]:
        return self.shape if self.cut is None else self.cut.kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A stored tensor that fills a target, or one expert of it; `scale` is there for quantised ones."""

    source: Source
    entry: Entry
    scale: Entry | None


DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
"""What floating weights may become, by name."""


def load_weights(
    model: nn.Module, folder: Path, dtype: torch.dtype, *, stays: Container[str] = frozenset(),
    cuts: Mapping[str, Cut] | None = None,
) -> LoadReport:  # fmt: skip
    """Give every parameter and persistent buffer of `model` (on the meta device or not) its value from `folder`.

    Floating weights become `dtype`, but mixing, sinks, `ape`, router and norms are never below FP32; ids are int64.
    Names may be official or those of transformers; FP8 and FP4 matrices are decoded. Everything that can be seen from
    headers is checked before the first value is read. Each value is decoded straight into the model's tensor: nothing
    but a few MiB exists besides the model. Parameters named in `stays` are checked likewise, but not read: they remain
    what they were, and the report says where each lies. Of a parameter named in `cuts` the model has that part alone,
    and no other values of it are read: rows in one piece, columns in pieces as wide as a part (of FP8 and FP4: widened
    to whole groups of one scale).

    Draft stages that the model does not have (DSpark always, MTP if built without) are skipped and reported.
    Raises CheckpointError naming tensor and file; the model is then not to be used.
    """
    if not dtype.is_floating_point or dtype.itemsize < 2:
        raise CheckpointError(f"dtype is {dtype}; weights load as float64, float32, bfloat16 or float16")
    stored = open_folder(folder)
    targets = _targets(model, dtype, cuts or {})
    skipped, notes = _left_out(stored, {name for target in targets for name in target.names})
    identity = _identity_map(model, stored)
    present = set(stored.entries) - set(skipped)
    plan = [(target, _pieces(target, stored, present)) for target in targets if identity is None or not _is_map(target)]
    _refuse_extra(stored, present, plan)
    plan.sort(key=lambda item: (str(item[1][0].entry.path), item[1][0].entry.offset))
    left = {target.name: _matrices_of(target, pieces) for target, pieces in plan if target.name in stays}
    with Maps() as maps:
        for target, pieces in plan:
            if target.name in left:
                continue
            value = _read(target, pieces, maps)
            if not value.is_floating_point():
                _check_ids(model, target, value, pieces[0].entry)
            _assign(model, target, value)
    if identity is not None:
        _assign(model, next(target for target in targets if _is_map(target)), identity)
    return LoadReport(
        is_official=stored.is_official,
        tensors=len(targets),
        model_bytes=sum(prod(t.kept) * t.dtype.itemsize for t in targets if t.name not in left),
        files=len(stored.files),
        skipped=tuple(stored.entries[name].name for name in skipped),
        notes=notes,
        left=left,
    )


def _matrices_of(target: _Target, pieces: list[_Piece]) -> tuple[StoredMatrix, ...]:
    """Where the matrices of a target lie, in the order of its first dimension."""
    rows, width = target.shape[-2:]
    found: list[StoredMatrix] = []
    for piece in pieces:
        several = piece.source.expert is None and len(target.shape) == 3
        first = rows * piece.source.half if piece.source.half is not None else 0
        for matrix in range(target.shape[0] if several else 1):
            where = StoredMatrix(
                entry=piece.entry, scale=piece.scale, matrix=matrix, first=first, rows=rows, width=width
            )
            found.append(where)
    return tuple(found)


def _targets(model: nn.Module, dtype: torch.dtype, cuts: Mapping[str, Cut]) -> list[_Target]:
    """Parameters and persistent buffers; names of one tied tensor are joined."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tied: dict[int, list[str]] = {}
    tensors = model.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        tied.setdefault(id(tensor), []).append(name)
    targets = []
    for aliases in tied.values():
        name = aliases[0]
        kind = torch.int64 if names.is_integer(name) else wide if names.keeps_fp32(name) else dtype
        cut, found = cuts.get(name), tuple(tensors[name].shape)
        assert cut is None or cut.kept == found, name
        shape = found if cut is None else cut.shape
        targets.append(_Target(names=tuple(aliases), shape=shape, dtype=kind, cut=cut))
    return targets


def _is_map(target: _Target) -> bool:
    return target.name == _ENGRAM_MAP


def _left_out(stored: Stored, wanted: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Official names to skip, and why. Whether draft stages are DSpark or MTP is told by `mtp.0.enorm.weight`."""
    drafts = [name for name in stored.entries if names.is_draft(name)]
    if not drafts:
        return (), ()
    is_mtp = "mtp.0.enorm.weight" in stored.entries
    if not any(names.is_draft(name) for name in wanted):
        kind = "plain MTP, which this model was built without" if is_mtp else "DSpark, which is not run"
        return tuple(drafts), (f"{len(drafts)} tensors of draft stages skipped ({kind})",)
    if not is_mtp:
        why = "the draft stages there are DSpark, the model's are plain MTP"
        raise CheckpointError(f"{stored.folder}: missing tensor 'mtp.0.enorm.weight'; {why}")
    copies = [name for name in drafts if names.is_draft_duplicate(name)]
    dspark = [name for name in drafts if names.is_dspark_only(name)]
    notes = [f"{len(copies)} copies of embedding and head in draft stages skipped"] if copies else []
    notes += [f"{len(dspark)} DSpark tensors skipped beside plain MTP"] if dspark else []
    return (*copies, *dspark), tuple(notes)


def _identity_map(model: nn.Module, stored: Stored) -> Tensor | None:
    """Engram's table of token ids where no compressed vocabulary was made and none is stored: every id is its own."""
    config = getattr(model, "config", None)
    if _ENGRAM_MAP in stored.entries or not isinstance(config, ModelConfig) or config.engram is None:
        return None
    return torch.arange(config.vocab_size) if config.engram.compressed_vocab_size is None else None


def _pieces(target: _Target, stored: Stored, present: set[str]) -> list[_Piece]:
    """Stored tensors for a target, each checked for presence, shape and type."""
    spelling = next((name for name in target.names if name in present), target.name)
    pieces = []
    for source in names.sources(spelling, target.shape, present):
        entry = stored.entries.get(source.name) if source.name in present else None
        if entry is None:
            raise CheckpointError(f"{stored.folder}: missing tensor '{source.name}'")
        shape = target.shape if source.expert is None else target.shape[1:]
        if source.half is not None:
            shape = (shape[0], 2 * shape[1], shape[2])
        _check_entry(entry, shape, target)
        scale = _scale_entry(stored, source, entry, shape) if formats.is_quantised(entry.tag) else None
        pieces.append(_Piece(source=source, entry=entry, scale=scale))
    return pieces


def _check_entry(entry: Entry, shape: tuple[int, ...], target: _Target) -> None:
    at = f"tensor '{entry.name}' in {entry.path.name}"
    if target.dtype == torch.int64:
        allowed = entry.tag == "I64"
    else:
        packed = formats.is_quantised(entry.tag) and formats.fits(entry.tag, shape) is None
        allowed = packed or entry.tag in formats.PLAIN
    if not allowed:
        kind = "I64" if target.dtype == torch.int64 else "a floating type, FP8 or FP4"
        raise CheckpointError(f"{at} has type {entry.tag}; {list(shape)} must be stored as {kind}")
    need = formats.stored_shape(entry.tag, shape)
    if entry.shape != need:
        raise CheckpointError(f"{at} has shape {list(entry.shape)}; the model needs {list(need)}")


def _scale_entry(stored: Stored, source: Source, entry: Entry, shape: tuple[int, ...]) -> Entry:
    name = names.scale_name(source.name)
    scale = stored.entries.get(name)
    if scale is None:
        raise CheckpointError(f"missing tensor '{name}', the scale of {entry.tag} '{entry.name}' in {entry.path.name}")
    at = f"tensor '{scale.name}' in {scale.path.name}"
    if scale.tag not in formats.SCALES:
        raise CheckpointError(f"{at} has type {scale.tag}; a scale must be {', '.join(sorted(formats.SCALES))}")
    need = formats.scale_shape(entry.tag, shape)
    if scale.shape != need:
        raise CheckpointError(f"{at} has shape {list(scale.shape)}; its weight {list(shape)} needs {list(need)}")
    return scale


def _refuse_extra(stored: Stored, present: set[str], plan: list[tuple[_Target, list[_Piece]]]) -> None:
    used = {entry.name for _, pieces in plan for piece in pieces for entry in (piece.entry, piece.scale) if entry}
    extra = [entry for name, entry in stored.entries.items() if name in present and entry.name not in used]
    if extra:
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise CheckpointError(f"tensor '{extra[0].name}' in {extra[0].path.name} is not part of this model{more}")


def _read(target: _Target, pieces: list[_Piece], maps: Maps) -> Tensor:
    """A fresh tensor filled from its pieces."""
    value, cut = torch.empty(target.kept, dtype=target.dtype), target.cut
    columns = None if cut is None or len(target.shape) < 2 else cut.columns
    for piece in pieces:
        expert = piece.source.expert
        if cut is not None and expert is not None and not cut.has_row(expert):
            continue
        scale = None if piece.scale is None else _read_scale(piece.scale, maps)
        for part, matrix, first in _matrices(piece.source, value, 0 if cut is None else cut.first_row):
            factors = scale if scale is None or scale.dim() == 2 else scale[matrix]
            _fill(part, piece.entry, maps, matrix=matrix, first=first, scale=factors, columns=columns)
    return value


def _matrices(source: Source, value: Tensor, kept_from: int) -> Iterator[tuple[Tensor, int, int]]:
    """(rows of the target [n, width], index of the stored matrix, first stored row) for every matrix of a source;
    `value` is the target from row `kept_from` on."""
    if source.expert is not None:
        yield value[source.expert - kept_from], 0, 0
    elif value.dim() == 3:
        first = 0 if source.half is None else source.half * value.shape[1]
        for matrix in range(value.shape[0]):
            yield value[matrix], kept_from + matrix, first
    else:  # a vector is a column of single values
        yield value.view(-1, 1) if value.dim() == 1 else value, 0, kept_from


def _read_scale(entry: Entry, maps: Maps) -> Tensor:
    stored = torch.empty(entry.shape, dtype=formats.DTYPES[entry.tag])
    maps.copy(entry, 0, stored)
    factors = formats.scale_factors(stored)
    if not bool((factors.isfinite() & (factors >= 0)).all()):
        at = f"tensor '{entry.name}' in {entry.path.name}"
        raise CheckpointError(f"{at} holds a scale that is NaN, infinite or negative")
    return factors


def _fill(
    part: Tensor, entry: Entry, maps: Maps, *, matrix: int, first: int, scale: Tensor | None, columns: range | None
) -> None:
    """Decode stored rows first .. first + n - 1 of matrix number `matrix`, of these `columns` (None: all), into part
    [n, width], a few MiB at a time."""
    rows, width = part.shape
    kind = formats.DTYPES[entry.tag]
    values = 2 if entry.tag in formats.FP4 else 1  # in a stored element
    if len(entry.shape) > 1:
        per_matrix, stored_width = entry.shape[-2:]
    else:
        per_matrix, stored_width = 1, 1
    read, here = _groups(columns, stored_width * values, scale is not None)
    if scale is not None and columns is not None:
        group = formats.TILE if entry.tag not in formats.FP4 else formats.FP4_GROUP
        scale = scale[:, read.start // group : -(-read.stop // group)]
    step = max(1, _CHUNK_VALUES // max(1, len(read)))
    for row in range(0, rows, step):
        chunk = part[row : row + step]
        at = (matrix * per_matrix + first + row) * stored_width * kind.itemsize
        if kind == chunk.dtype and columns is None:
            maps.copy(entry, at, chunk)
        else:
            raw = torch.empty(chunk.shape[0], len(read) // values, dtype=kind)
            maps.copy(entry, at + read.start // values * kind.itemsize, raw, apart=stored_width * kind.itemsize)
            chunk.copy_(formats.decode_rows(raw, scale, first + row)[:, here.start : here.stop])
        if chunk.is_floating_point() and not _is_finite(chunk):
            at = f"tensor '{entry.name}' in {entry.path.name}"
            raise CheckpointError(f"{at} holds a value that is NaN, infinite or too large for {chunk.dtype}")


def _groups(columns: range | None, width: int, quantised: bool) -> tuple[range, range]:
    """Columns that are read for these of `width`, whole groups of one scale, and where among them those are."""
    if columns is None:
        return range(width), range(width)
    tile = formats.TILE if quantised else 1
    start, stop = columns.start // tile * tile, min(-(-columns.stop // tile) * tile, width)
    return range(start, stop), range(columns.start - start, columns.stop - start)


def _is_finite(chunk: Tensor) -> bool:
    # A finite sum proves finite addends and needs no mask; a sum that is not may still be an overflow.
    return bool(chunk.sum().isfinite()) or bool(chunk.isfinite().all())


def _check_ids(model: nn.Module, target: _Target, value: Tensor, entry: Entry) -> None:
    """Expert ids must name an expert, Engram's ids a row of its vocabulary: they are used as addresses."""
    limit = _id_limit(model, target.name)
    low, high = (int(value.min()), int(value.max())) if value.numel() else (0, 0)
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        raise CheckpointError(f"tensor '{entry.name}' in {entry.path.name} holds id {wrong}; ids are 0 to {limit - 1}")


def _id_limit(model: nn.Module, name: str) -> int:
    if name.endswith(".tid2eid"):
        return model.get_parameter(name.removesuffix("tid2eid") + "weight").shape[0]
    config = getattr(model, "config", None)
    assert isinstance(config, ModelConfig), name
    assert config.engram is not None, name
    return config.engram.compressed_vocab_size or config.vocab_size


def _assign(model: nn.Module, target: _Target, value: Tensor) -> None:
    """Put one tensor in place of the model's, under all its names."""
    holder, _, leaf = target.name.rpartition(".")
    old = model.get_submodule(holder)._parameters.get(leaf)
    fresh = value if old is None else nn.Parameter(value, requires_grad=old.requires_grad and value.is_floating_point())
    for name in target.names:
        holder, _, leaf = name.rpartition(".")
        module = model.get_submodule(holder)
        (module._buffers if old is None else module._parameters)[leaf] = fresh  # type: ignore[index]
