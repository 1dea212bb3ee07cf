"""`octavo eval recall`: questions about documents. Covers: loading and printing."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
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
    from octavo.engine.plan import parse_context
    from octavo.evals.report import to_json, to_markdown, write
    from octavo.evals.runner import CONTROLS, RecallPlan, run_recall

    kinds = command.kinds or ("fact", "quotation", "speaker")
    plan = RecallPlan(
        cells=tuple((kind, command.text or "shakespeare") for kind in kinds),
        lengths=tuple(parse_context(length) for length in command.lengths),
        count=command.count,
        controls=tuple(CONTROLS) if command.controls else (),
        index_topk=command.index_topk,
    )
    room = None if command.device == "cpu" else max(plan.lengths) + _ROOM
    dtype = "float32" if command.device == "cpu" else "bfloat16"
    model: Any = octavo.load(command.model, dtype, device=command.device, main=command.main, capacity_tokens=room)
    about = {"model": command.model, "fingerprint": model.fingerprint, "octavo": octavo.__version__}
    about |= {"date": datetime.now(UTC).isoformat(timespec="seconds")}
    about |= {"index_topk": command.index_topk, "machine": platform.machine(), "python": platform.python_version()}
    about |= {"device": command.device, "dtype": dtype, "main": model.pool.layout.main.value}
    results = []
    with Steps() as steps:
        for result in run_recall(model, model.tokenizer, plan, progress=steps):
            results.append(result)
            if command.out is not None:  # after every cell, so that an interrupt keeps those that are done
                write(results, Path(command.out), about=about)
    put((to_json(results, about=about) if command.json else to_markdown(results)).rstrip("\n"))
