"""`octavo eval anatomy`: why answers about a document come out wrong. Covers: the cells, loading and printing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.cli.output import put
from octavo.cli.progress import Steps

if TYPE_CHECKING:
    from octavo.cli.eval import Command

_ROOM = 65_536  # tokens of cache beyond the longest document: its length is met within 2 %, questions come on top


def run(command: Command) -> None:
    """Measure and print."""
    import octavo
    from octavo.cache.view import Controls
    from octavo.data.tasks.cell import TEST_SEEDS, build_cell
    from octavo.engine.plan import parse_context
    from octavo.evals.anatomy import run_cells
    from octavo.evals.anatomy_report import to_json, to_markdown, write
    from octavo.evals.texts import filler, works

    kinds, text = command.kinds or ("fact", "quotation", "speaker"), command.text or "shakespeare"
    lengths = sorted(parse_context(length) for length in command.lengths)
    prose, apart = filler(text), works(text)
    room = None if command.device == "cpu" else lengths[-1] + _ROOM
    dtype = "float32" if command.device == "cpu" else "bfloat16"
    model: Any = octavo.load(command.model, dtype, device=command.device, main=command.main, capacity_tokens=room)
    about = {"model": command.model, "fingerprint": model.fingerprint, "octavo": octavo.__version__}
    about |= {"device": command.device, "dtype": dtype, "main": model.pool.layout.main.value}
    about |= {"index_topk": command.index_topk}
    cells = (
        (
            text,
            build_cell(
                kind, length, TEST_SEEDS, text=prose, tokenizer=model.tokenizer, count=command.count, works=apart
            ),
        )
        for length in lengths for kind in kinds
    )  # fmt: skip
    controls = None if command.index_topk is None else Controls(index_topk=command.index_topk)
    results = []
    with Steps() as steps:
        for result in run_cells(model, cells, controls=controls, progress=steps):
            results.append(result)
            if command.out is not None:  # after every cell, so that an interrupt keeps those that are done
                write(results, Path(command.out), about=about)
    put((to_json(results, about=about) if command.json else to_markdown(results)).rstrip("\n"))
