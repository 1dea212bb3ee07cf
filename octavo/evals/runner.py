"""A recall run: cells of several kinds, texts and lengths, with and without controls.

Covers: the plan, its order, controls by name. Does not cover: asking (`recall`), output (`report`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from octavo.cache.view import Controls, Picks
from octavo.config.errors import UsageError
from octavo.data.tasks.cell import TEST_SEEDS, build_cell
from octavo.evals.recall import MAX_TOKENS, CellResult, Reader, run_cell
from octavo.evals.texts import filler, works
from octavo.text.tokenizer import Tokenizer

CONTROLS: dict[str, dict[str, Any]] = {
    "random picks": {"controls": Controls(picks=Picks.RANDOM)},
    "HCA off": {"controls": Controls(hca=False)},
    "any words": {"quote": False},
}
"""What each control changes: `controls` of reading and asking, `quote` of asking."""


@dataclass(frozen=True, kw_only=True)
class RecallPlan:
    """What to measure.

    cells: pairs of kind and text (a path or "shakespeare"). lengths: tokens of the documents. count: questions a cell.
    controls: names of `CONTROLS`, run beside each cell of at most `control_limit` tokens. index_topk: entries picked in
    the plain runs (None: the model's own). max_tokens: longest answer.
    """

    cells: tuple[tuple[str, str], ...]
    lengths: tuple[int, ...]
    count: int = 64
    seed: int = TEST_SEEDS
    controls: tuple[str, ...] = ()
    control_limit: int = 32_768
    index_topk: int | None = None
    max_tokens: int = MAX_TOKENS

    def __post_init__(self) -> None:
        for name in self.controls:
            if name not in CONTROLS:
                raise UsageError(f"unknown control {name!r}: it is one of {', '.join(CONTROLS)}")
        if not self.cells or not self.lengths:
            raise UsageError("a recall plan needs at least one cell and one length")


def run_recall(
    reader: Reader, tokenizer: Tokenizer, plan: RecallPlan, *,
    progress: Callable[[str, str, int, int], None] | None = None,
) -> Iterator[CellResult]:  # fmt: skip
    """Results in the plan's order, shortest documents first; each is ready to be reported when it comes.

    progress: called with (cell, "read" | "ask", done, all). Raises UsageError or LimitError for cells that cannot be
    built, before anything of that length is read.
    """
    texts = {name: filler(name) for name in dict.fromkeys(text for _, text in plan.cells)}
    apart = {name: works(name) for name in texts}
    for length in sorted(plan.lengths):
        cells = [
            (
                name,
                build_cell(
                    kind, length, plan.seed, text=texts[name], tokenizer=tokenizer, count=plan.count,
                    works=apart[name],
                ),
            )
            for kind, name in plan.cells
        ]  # fmt: skip
        for name, cell in cells:
            for control, options in _runs(plan, length):
                title = f"{cell.kind} {length} {control}"
                watch = None if progress is None else _watch(progress, title)
                yield run_cell(
                    reader,
                    cell,
                    text=name,
                    control=control,
                    options=options,
                    max_tokens=plan.max_tokens,
                    progress=watch,
                )


def _runs(plan: RecallPlan, length: int) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "none", {} if plan.index_topk is None else {"controls": Controls(index_topk=plan.index_topk)}
    if length <= plan.control_limit:
        for name in plan.controls:
            yield name, CONTROLS[name]


def _watch(progress: Callable[[str, str, int, int], None], title: str) -> Callable[[str, int, int], None]:
    def watch(phase: str, done: int, total: int) -> None:
        progress(title, phase, done, total)

    return watch
