"""Right answers by length of the document, from records of `octavo eval recall`, beside published curves.

Covers: reading those records, the lines of the figure, the published figures and where they are from. Does not cover:
asking (`octavo.evals`), drawing (`figures`), what tells the tasks apart (docs/evaluation.md says it).

A record of recall, `<model>-recall-*.json`, holds `about` (`model`, `date`) and `cells`, each with `kind`, `length`,
`control` and `recall`; other words in the name set the records of earlier weights apart. Cells of controls and of other
numbers of picks are left out; of cells of one kind and length the newest record's counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.bench.figures import Line, Point
from octavo.bench.record import BenchError

MODEL = "octavo-s"
KINDS = {
    "fact": "planted fact", "multi_key": "multi-key, hard negatives", "two_hop_steps": "two facts, with the step",
}  # fmt: skip
_NEAR = 0.02  # a length this close to a power of two is drawn at it


@dataclass(frozen=True, kw_only=True)
class Published:
    """Scores from 0 to 1 by tokens, as others published them; `source` names where."""

    name: str
    task: str
    scores: dict[int, float]
    source: str


_K, _M = 1024, 1024 * 1024
PUBLISHED = (
    Published(
        name="DeepSeek-V4-Pro", task="MRCR, 8 needles",
        scores={8 * _K: 0.90, 16 * _K: 0.85, 32 * _K: 0.94, 64 * _K: 0.90, 128 * _K: 0.92, 256 * _K: 0.82,
                512 * _K: 0.66, _M: 0.59},
        source="DeepSeek-V4 report (arXiv 2606.19348), figure 9, highest effort, read from the drawing",
    ),
    Published(
        name="DeepSeek-V4-Flash", task="MRCR, 8 needles",
        scores={8 * _K: 0.91, 16 * _K: 0.84, 32 * _K: 0.87, 64 * _K: 0.85, 128 * _K: 0.87, 256 * _K: 0.76,
                512 * _K: 0.60, _M: 0.49},
        source="DeepSeek-V4 report (arXiv 2606.19348), figure 9, highest effort, read from the drawing",
    ),
    Published(
        name="Nemotron 3 Super", task="RULER", scores={256 * _K: 0.963, 512 * _K: 0.957, _M: 0.9175},
        source="NVIDIA's table for Nemotron 3 Super",
    ),
    Published(
        name="GPT-OSS-120B", task="RULER", scores={256 * _K: 0.523, 512 * _K: 0.467, _M: 0.223},
        source="NVIDIA's table for Nemotron 3 Super; beyond the 128K that the model was made for",
    ),
)  # fmt: skip


def recall_lines(folder: Path, model: str = MODEL) -> tuple[Line, ...]:
    """A line for each of `KINDS` that the records in `folder` hold of `model`, and behind them the published ones,
    dashed; nothing where there is none of ours. BenchError names a record that is malformed."""
    points: dict[str, dict[int, Point]] = {}
    for cell in recall_cells(folder, model):
        share, tokens = cell["recall"]["share"], _drawn_at(cell["length"])
        points.setdefault(cell["kind"], {})[tokens] = Point(tokens=tokens, value=share)
    ours = [_line(f"{model}: {said}", points[kind]) for kind, said in KINDS.items() if kind in points]
    return (*ours, *(_published(one) for one in PUBLISHED)) if ours else ()


def recall_cells(folder: Path, model: str) -> list[dict[str, Any]]:
    """Cells without controls of the records of `model` in `folder`, the oldest first. BenchError as `recall_lines`."""
    found: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(folder.glob(f"{model}-recall-*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            about = content.get("about", {})
            if "format" not in content or about.get("model") != model or about.get("index_topk") is not None:
                continue
            cells = [cell for cell in content["cells"] if cell["control"] == "none" and cell["recall"]["asked"]]
            found += [(str(about.get("date", "")), cell) for cell in cells if cell["length"] > 0 and cell["kind"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{path}: no record of recall: {error!r}") from None
    return [cell for _, cell in sorted(found, key=lambda one: one[0])]


def _drawn_at(length: int) -> int:
    """The power of two that `length` is within 2 % of, else `length` itself."""
    power = 1 << length.bit_length()
    near = min((power, power // 2), key=lambda one: abs(one - length))
    return near if abs(near - length) <= _NEAR * near else length


def _line(label: str, points: dict[int, Point]) -> Line:
    return Line(label=label, group=label, points=tuple(points[tokens] for tokens in sorted(points)))


def _published(one: Published) -> Line:
    label = f"{one.name}: {one.task}"
    points = tuple(Point(tokens=tokens, value=score) for tokens, score in one.scores.items())
    return Line(label=label, group=label, bound=True, points=points)
