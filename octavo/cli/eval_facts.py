"""`octavo eval facts`: what a model knows by heart, with its memory on, off and permuted. Covers: loading, printing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.cli.output import put
from octavo.cli.progress import Steps

if TYPE_CHECKING:
    from octavo.cli.eval import Command

_ROOM = 16_384  # tokens of cache on a GPU: a passage, its questions and a page at least
_EVERY = 32  # questions between two reports on disk


def run(command: Command) -> None:
    """Measure and print."""
    import octavo
    from octavo.evals import engram, facts, facts_run

    questions = facts.choose(facts.rows(command.text), command.count, groups=command.kinds or ("invented", "never"))
    dtype = "float32" if command.device == "cpu" else "bfloat16"
    room = None if command.device == "cpu" else _ROOM
    model: Any = octavo.load(command.model, dtype, device=command.device, main=command.main, capacity_tokens=room)
    about = {"model": command.model, "fingerprint": model.fingerprint, "octavo": octavo.__version__}
    about |= {"device": command.device, "dtype": dtype, "main": model.pool.layout.main.value}
    about |= {"questions": command.text or "towns of octavo-s", "engram": engram.has_memory(model)}
    controls = engram.MEMORY if command.controls and engram.has_memory(model) else ("none",)
    results = []
    with Steps() as steps:
        for result in facts_run.run_facts(model, questions, controls=controls, progress=steps):
            results.append(result)
            if command.out is not None and len(results) % _EVERY == 0:  # an interrupt keeps those that are done
                facts_run.write(results, Path(command.out), about=about)
    if command.out is not None:
        facts_run.write(results, Path(command.out), about=about)
    put((facts_run.to_json(results, about=about) if command.json else facts_run.to_markdown(results)).rstrip("\n"))
