"""The recorded files of a folder: what each of them measured, where, when and from which commit.

Covers: reading all JSON files of a folder, telling kinds of records apart, and of every kernel case the newest outcome.
Does not cover: what is made of them (`headlines`, `speeds`, `report`). Files of other kinds are left alone; a file that
is malformed is an error that names file and field.

    kernels   `octavo bench kernels`                       slice    benchmarks.gpu_slice
    lengths   benchmarks.read_lengths, .long_read          drafts   benchmarks.speculation
    levels    benchmarks.index_levels                      offload  benchmarks.offload
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from octavo.bench.record import BenchError, Kinds, check_kernels, field, read_json
from octavo.config.errors import UsageError

SourceKind = Literal["kernels", "lengths", "slice", "drafts", "levels", "offload"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A record and the file it came from."""

    path: Path
    kind: SourceKind
    content: dict[str, Any]

    def at(self, *names: str | int, kind: Kinds) -> Any:
        """content[name][name].. of `kind`; BenchError names file, field and fault."""
        return field(self.path, self.content, *names, kind=kind)

    def has(self, *names: str | int) -> bool:
        """Whether the field is there."""
        value: Any = self.content
        for name in names:
            inside: Any = dict(enumerate(value)) if isinstance(value, list) else value
            if not isinstance(inside, dict) or name not in inside:
                return False
            value = inside[name]
        return True

    @property
    def _about(self) -> tuple[str, ...]:
        return ("about",) if self.kind == "kernels" else ()

    @property
    def when(self) -> datetime:
        """When it was measured; in UTC where the record names no zone."""
        text = self.at(*self._about, "date", kind=str)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise BenchError(f"{self.path}: field date is {text!r:.60}; it must be an ISO date") from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @property
    def device(self) -> str:
        """What did the work: the GPU where rates of one were measured."""
        if self.kind == "slice":
            return self.at("rates", "device", kind=str)
        return self.at(*self._about, "device", kind=str)

    @property
    def commit(self) -> str:
        """The commit in twelve digits, and whether files had changed since; "unknown" where the record has none."""
        about = self.content["about"] if self.kind == "kernels" else self.content
        known = about.get("commit")
        if not known:
            return "unknown"
        return f"{str(known)[:12]}{' with changes' if about.get('changed') else ''}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case of a record of kernels: `case` is content["cases"][number] of `source`."""

    source: Source
    number: int

    @property
    def case(self) -> dict[str, Any]:
        """The case's fields."""
        return self.source.content["cases"][self.number]

    @property
    def timed(self) -> bool:
        """Whether it has a time."""
        return self.case["status"] == "ok"


def read_sources(folder: Path) -> list[Source]:
    """The records in the JSON files of `folder`, the oldest first. UsageError where there is no folder."""
    if not folder.is_dir():
        raise UsageError(f"results: {str(folder)!r} is no folder")
    found = []
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        kind = _kind(content)
        if kind is None:
            continue
        if kind == "kernels":
            check_kernels(path, content)
        found.append(Source(path=path, kind=kind, content=content))
    return sorted(found, key=lambda source: source.when)


def _kind(content: dict[str, Any]) -> SourceKind | None:
    if content.get("task") == "kernels":
        return "kernels"
    if isinstance(content.get("drafts"), list):
        return "drafts"
    if "expert_bytes" in content and isinstance(content.get("decode"), dict):
        return "offload"
    if isinstance(content.get("rates"), dict) and "chunk" in content:
        return "slice"
    runs = content.get("runs")
    if isinstance(runs, list) and runs and all(isinstance(run, dict) and "two_levels" in run for run in runs):
        return "levels"
    return "lengths" if "lengths" in content or "decoding" in content else None


def newest(sources: Iterable[Source]) -> list[Outcome]:
    """Of every full case on every device the newest outcome that says something of it, by operation and name.

    A result that is wrong or failed says something, and takes the place of an older time; a case that was only checked
    or not reached does so only where nothing else is known. `sources` come oldest first, as `read_sources` gives them.
    """
    found: dict[tuple[str, str, str], Outcome] = {}
    for source in sources:
        if source.kind != "kernels":
            continue
        for number, case in enumerate(source.content["cases"]):
            if case["size"] != "full":
                continue
            key = source.device, case["op"], case["name"]
            mute = case["status"] in ("right", "not reached")
            if key in found and mute:
                continue
            found[key] = Outcome(source=source, number=number)
    return sorted(found.values(), key=lambda one: one.case["op"])  # cases of an operation keep their order
