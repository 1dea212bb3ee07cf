"""`python -m octavo.train.reinforce NAME`: reinforcement learning by the name of its settings.

    python -m octavo.train.reinforce octavo-s-reinforced --weights taught/weights --pack pack --out run --kept new

Covers: arguments, a line a step on stderr, the verdict. Does not cover: the work (`start`). The run saves as it goes;
the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from octavo.config.errors import OctavoError


def main(arguments: list[str] | None = None) -> int:
    """Run; exit code 0, or 1 after an error that is explained in one line."""
    parser = argparse.ArgumentParser(prog="python -m octavo.train.reinforce", description="GRPO with verified rewards.")
    parser.add_argument("name", help="name of the settings")
    parser.add_argument("--weights", type=Path, required=True, help="folder of weights and tokenizer to start from")
    parser.add_argument("--pack", type=Path, required=True, help="folder of packed tokens")
    parser.add_argument("--out", type=Path, required=True, help="folder for the log, the checkpoint and the verdict")
    parser.add_argument("--kept", type=Path, help="folder for the weights that are kept: the trained ones if better")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--minutes", type=float, help="stop, saved, after this long")
    parser.add_argument("--steps", type=int, help="other number of steps than the settings have")
    parser.add_argument("--seed", type=int, help="other seed than the settings have")
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except OctavoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    from octavo.train.reinforce.loop import Options
    from octavo.train.reinforce.settings import settings
    from octavo.train.reinforce.start import start

    changed = {name: getattr(given, name) for name in ("steps", "seed") if getattr(given, name) is not None}
    chosen = replace(settings(given.name), **changed)
    options = Options(out=given.out, max_seconds=None if given.minutes is None else 60 * given.minutes)
    result = start(
        chosen, weights=given.weights, pack=given.pack, options=options, device=given.device, kept=given.kept,
        show=_tell,
    )  # fmt: skip
    found = None if result.verdict is None else asdict(result.verdict)
    print(json.dumps({"name": chosen.name, "steps": result.steps, "finished": result.finished, "verdict": found}))
    return 0


def _tell(line: dict[str, Any]) -> None:
    shown = ("step", "reward", "any_right", "told_apart", "surprise", "grad_norm")
    print("  ".join(f"{name} {line[name]:.4g}" for name in shown if name in line), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
