"""Files of wordings, one to a line.

Covers: reading them. Does not cover: which table takes which file (`wordings`, `authored.relations`).

`train_*.txt` hold templates as `phrasing` reads them; `test_*.txt` hold plain wordings, written by somebody who had not
seen those of training.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def lines(name: str) -> tuple[str, ...]:
    """The wordings in `<name>.txt`. Raises FileNotFoundError for a name without a file."""
    return tuple(files("octavo.data.tasks.authored").joinpath(f"{name}.txt").read_text("utf-8").splitlines())
