"""A folder of weights. Covers: finding its files, by index or as one file, and all tensors under official names; no
tensor is read. Does not cover: what a model needs of them (`reader.py`), damage inside a file (`shard.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from octavo.config.errors import CheckpointError
from octavo.model.checkpoint.names import official_name
from octavo.model.checkpoint.shard import Entry, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a folder holds: `entries` by official name. `is_official` is False when names had to be translated."""

    folder: Path
    entries: dict[str, Entry]
    is_official: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold tensors, each once, in order."""
        return tuple(dict.fromkeys(entry.path for entry in self.entries.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(entry.nbytes for entry in self.entries.values())


def open_folder(folder: Path) -> Stored:
    """Read the headers of every shard of `folder`.

    CheckpointError, naming file and tensor, for a missing shard, a tensor that the index promises and no file has, one
    that no index lists, one stored twice, and any damaged or truncated file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder{_interrupted_save(folder)}")
    if (folder / INDEX).is_file():
        found = _by_index(folder)
    elif (folder / SINGLE).is_file():
        found = list(read_header(folder / SINGLE).values())
    else:
        raise CheckpointError(f"{folder} holds no weights: neither {INDEX} nor {SINGLE} is there")
    entries: dict[str, Entry] = {}
    for entry in found:
        name = official_name(entry.name)
        if name in entries:
            first, second = (f"'{e.name}' in {e.path.name}" for e in (entries[name], entry))
            raise CheckpointError(f"tensor '{name}' is stored twice: as {first} and as {second}")
        entries[name] = entry
    is_official = all(name == entry.name for name, entry in entries.items())
    return Stored(folder=folder, entries=entries, is_official=is_official)


def previous_folder(folder: Path) -> Path:
    """Where `save_checkpoint` puts the old folder for the moment in which the new one takes its name."""
    return folder.with_name(f".{folder.name}.previous")


def _interrupted_save(folder: Path) -> str:
    previous = previous_folder(folder)
    return f"; an interrupted save left the previous one in {previous}" if previous.is_dir() else ""


def _by_index(folder: Path) -> list[Entry]:
    places = _weight_map(folder / INDEX)
    headers: dict[str, dict[str, Entry]] = {}
    for name, file in places.items():
        if file not in headers:
            if not (folder / file).is_file():
                raise CheckpointError(f"missing shard {folder / file}, which should hold tensor '{name}'")
            headers[file] = read_header(folder / file)
        if name not in headers[file]:
            raise CheckpointError(f"tensor '{name}' is not in {folder / file}, where {INDEX} puts it")
    for file, header in headers.items():
        for name in header:
            if places.get(name) != file:
                raise CheckpointError(f"tensor '{name}' in {folder / file} is not listed there by {INDEX}")
    return [entry for header in headers.values() for entry in header.values()]


def _weight_map(path: Path) -> dict[str, str]:
    """Tensor name -> file name of an index; names with a folder in them are refused."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged index, it has no readable weight_map") from error
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{path}: damaged index, its weight_map lists no tensors")
    for name, file in places.items():
        if not isinstance(file, str) or Path(file).name != file or not file:
            raise CheckpointError(f"{path}: tensor '{name}' is placed in {file!r}, which is not a file of this folder")
    return places
