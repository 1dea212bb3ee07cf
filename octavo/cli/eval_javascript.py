"""`octavo eval javascript`: functions written by a model, and run. Covers: loading and printing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.cli.output import put
from octavo.cli.progress import Steps
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.cli.eval import Command

_ROOM = 16_384  # tokens of cache on a GPU: a problem, its answer and a page at least


def run(command: Command) -> None:
    """Measure and print."""
    import octavo
    from octavo.evals import javascript, javascript_run
    from octavo.evals.writer import OwnWriter
    from octavo.sandbox import Limits, Sandbox

    if command.count < 1:
        raise UsageError(f"count is {command.count}; it must be at least 1")
    forms = command.kinds or ("complete",)
    javascript_run.check_forms(forms)
    limits = Limits(seconds=5)
    with Sandbox(limits) as sandbox:
        if command.text is None:
            problems, failing = javascript.asked(command.count, sandbox), []
        else:
            problems, failing = javascript.load(Path(command.text), sandbox)
        dtype = "float32" if command.device == "cpu" else "bfloat16"
        room = None if command.device == "cpu" else _ROOM
        model: Any = octavo.load(command.model, dtype, device=command.device, main=command.main, capacity_tokens=room)
        about = {"model": command.model, "fingerprint": model.fingerprint, "octavo": octavo.__version__}
        about |= {"device": command.device, "dtype": dtype, "main": model.pool.layout.main.value}
        about |= {"tasks": command.text or "held-out generator", "left_out": failing}
        about |= {"seconds": limits.seconds, "max_tokens": javascript_run.MAX_TOKENS}
        results, writer = [], OwnWriter(model)
        with Steps() as steps:
            for result in javascript_run.run_problems(writer, problems, sandbox, forms=forms, progress=steps):
                results.append(result)
                if command.out is not None:  # after every problem, so that an interrupt keeps those that are done
                    javascript_run.write(results, Path(command.out), about=about)
    if command.json:
        return put(javascript_run.to_json(results, about=about).rstrip("\n"))
    put(javascript_run.to_markdown(results).rstrip("\n"))
