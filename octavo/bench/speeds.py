"""Speed against context length: the lines of the figures, from records by length and from slices on a GPU.

Covers: reading and decoding on the CPU by model, machine and index; reading and decoding of a slice on a GPU by batch;
the bound of each where the record holds it. Points of newer records take the place of older ones. Does not cover:
drawing (`figures`), reading files (`sources`).

A record by length holds `model`, `device` and `lengths`, each with `tokens` and `tokens_per_second`, and where they
were measured `index_levels`, `decode_seconds` and `decode_bound_share`; or, of decoding alone, `decoding` with the same
fields but the speed. Steps are drawn of the machine alone that was measured last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from octavo.bench.figures import Line, Point
from octavo.bench.record import NUMBER, BenchError
from octavo.bench.sources import Source

_NOISE = re.compile(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*")  # of a processor's name


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Lines of one figure, and what they were measured on."""

    lines: tuple[Line, ...]
    where: str
    device: str


class _Lines:
    """Points of lines by label and context; what is put later takes the place of what was put before."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str, bool], dict[float, Point]] = {}

    def put(self, label: str, point: Point, *, group: str | None = None, bound: bool = False) -> None:
        self._points.setdefault((label, group or label, bound), {})[point.tokens] = point

    def made(self) -> tuple[Line, ...]:
        return tuple(
            Line(label=label, group=group, bound=bound, points=tuple(sorted(points.values(), key=lambda p: p.tokens)))
            for (label, group, bound), points in self._points.items()
        )


def cpu_reading(sources: Iterable[Source]) -> Speeds | None:
    """Tokens a second of reading by model, machine and index; None without a record."""
    return _by_length(sources, decoding=False)


def cpu_decoding(sources: Iterable[Source]) -> Speeds | None:
    """Milliseconds of a decode step, and the bound of the bytes it reads; None without a record."""
    return _by_length(sources, decoding=True)


def _by_length(sources: Iterable[Source], *, decoding: bool) -> Speeds | None:
    lines, where = _Lines(), {}
    given = [(source, field, number) for source in sources for field, number in _rows(source, decoding=decoding)]
    for source, field, number in given:
        if decoding and _machine(source) != _machine(given[-1][0]):
            continue
        tokens, label = source.at(field, number, "tokens", kind=NUMBER), _label(source, field, number)
        if decoding:
            seconds = source.at(field, number, "decode_seconds", kind=NUMBER)
            share = source.at(field, number, "decode_bound_share", kind=NUMBER)
            lines.put(label, Point(tokens=tokens, value=1e3 * seconds))
            lines.put(f"{label}: bound", Point(tokens=tokens, value=1e3 * seconds * share), group=label, bound=True)
        else:
            lines.put(label, Point(tokens=tokens, value=source.at(field, number, "tokens_per_second", kind=NUMBER)))
        where[_machine(source)] = None
    made = lines.made()
    return Speeds(lines=made, where="; ".join(where), device="cpu") if made else None


def _rows(source: Source, *, decoding: bool) -> list[tuple[str, int]]:
    """The rows of a record by length that say what is drawn: field and number."""
    if source.kind != "lengths":
        return []
    found = []
    for field in ("lengths", "decoding"):
        if not source.has(field):
            continue
        if not source.at(field, kind=list):
            raise BenchError(f"{source.path}: field {field} is empty")
        for number in range(len(source.content[field])):
            if source.has(field, number, "decode_seconds") if decoding else field == "lengths":
                found.append((field, number))
    return found


def _label(source: Source, field: str, number: int) -> str:
    said = source.has(field, number, "index_levels")
    levels = source.at(field, number, "index_levels", kind=int) if said else 1
    index = {1: "exact index", 2: "index of two levels"}.get(levels)
    if index is None:
        raise BenchError(f"{source.path}: field {field}.{number}.index_levels is {levels}; it must be 1 or 2")
    model = source.at("model", kind=str)
    name = " ".join(_NOISE.sub(" ", source.device).split())
    return f"{model}, {index}, {name} {source.content.get('cpu_capability') or ''}".rstrip()


def _machine(source: Source) -> str:
    cores = source.content.get("cores")
    return f"{source.device.removeprefix('CPU ')}, {cores} cores" if cores else source.device


def gpu_reading(sources: Iterable[Source]) -> list[Speeds]:
    """For every GPU: tokens a second of reading a slice from nothing, with the share of the bound, and the bounds."""
    found = []
    for device, slices in _by_device(sources, "prefill").items():
        lines = _Lines()
        for source in slices:
            for number in range(len(source.at("prefill", kind=list))):
                row = {
                    name: source.at("prefill", number, name, kind=NUMBER)
                    for name in ("tokens", "seconds", "bound_seconds", "share", "share_experts_fp8")
                }
                tokens, speed = row["tokens"], row["tokens"] / row["seconds"]
                lines.put("read", Point(tokens=tokens, value=speed, note=f"{row['share']:.2f}"))
                for label, share in (("BF16", "share"), ("FP8", "share_experts_fp8")):
                    point = Point(tokens=tokens, value=speed / row[share])
                    lines.put(f"bound, experts at the {label} rate", point, group=label, bound=True)
        found.append(Speeds(lines=lines.made(), where=_slice(device, slices), device=device))
    return found


def gpu_decoding(sources: Iterable[Source]) -> list[Speeds]:
    """For every GPU: milliseconds of a slice's decode step by batch, each with its share of the byte bound, and the
    bounds."""
    found = []
    for device, slices in _by_device(sources, "decode").items():
        lines = _Lines()
        for source in slices:
            for number in range(len(source.at("decode", kind=list))):
                tokens, batch = (source.at("decode", number, name, kind=int) for name in ("context", "batch"))
                bound, share = (source.at("decode", number, name, kind=NUMBER) for name in ("bound_seconds", "share"))
                seconds = source.at("decode", number, "seconds", "median", kind=NUMBER)
                label = f"batch {batch}"
                lines.put(label, Point(tokens=tokens, value=1e3 * seconds, note=f"{share:.2f}"))
                lines.put(f"{label}: bound", Point(tokens=tokens, value=1e3 * bound), group=label, bound=True)
        found.append(Speeds(lines=lines.made(), where=_slice(device, slices), device=device))
    return found


def _by_device(sources: Iterable[Source], part: str) -> dict[str, list[Source]]:
    """Slices that hold `part`, by GPU; of several shapes or formats only those of the newest."""
    found: dict[str, list[Source]] = {}
    for source in sources:
        if source.kind == "slice" and source.has(part):
            found.setdefault(source.device, []).append(source)
    return {device: [one for one in slices if _shape(one) == _shape(slices[-1])] for device, slices in found.items()}


def _shape(source: Source) -> tuple[object, ...]:
    return source.at("config", kind=dict), source.at("main", kind=str), source.at("index", kind=str)


def _slice(device: str, slices: list[Source]) -> str:
    newest = slices[-1]
    layers, width = (newest.at("config", name, kind=int) for name in ("num_hidden_layers", "hidden_size"))
    return f"{layers} layers of width {width:,}, {device}"
