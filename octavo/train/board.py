"""The log's numbers for TensorBoard, which the extra `tensorboard` installs.

Covers: a run's log.jsonl as event files, scalars by step, lists one by one, events as texts. Does not cover: anything
that the log lacks.

    python -m octavo.train.board OUT      # writes OUT/tensorboard anew from OUT/log.jsonl
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.config.errors import UsageError


class Board:
    """Writes event files into `folder`. Raises UsageError where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(f"TensorBoard is not installed: pip install 'octavo[tensorboard]' ({error})") from error
        self._writer = SummaryWriter(str(folder))

    def write(self, values: Mapping[str, Any]) -> None:
        """Add what one line of the log says."""
        step = values["step"]
        for name, value in values.items():
            if isinstance(value, str):
                if name == "event":
                    self._writer.add_text("events", " ".join(f"{k}={v}" for k, v in values.items()), step)
            elif isinstance(value, list):
                for i, one in enumerate(value):
                    self._writer.add_scalar(f"{name}/{i}", one, step)
            elif name != "step" and value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still held."""
        self._writer.close()


def show(out: Path) -> Path:
    """Write the log of the run in `out` as event files; their folder. What stood there goes. A last line that is not
    whole yet is left out. Raises UsageError where there is no log."""
    log, folder = out / "log.jsonl", out / "tensorboard"
    if not log.is_file():
        raise UsageError(f"{log} is no file: `octavo train ... --out {out}` writes it")
    shutil.rmtree(folder, ignore_errors=True)
    board = Board(folder)
    for line in log.read_text("utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            board.write(json.loads(line))
    board.close()
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m octavo.train.board OUT")
    try:
        sys.stdout.write(f"tensorboard --logdir {show(Path(sys.argv[1]))}\n")
    except UsageError as error:
        sys.exit(str(error))
