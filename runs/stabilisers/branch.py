"""Beginning a run where its twin was before the fault, so that what they have in common is computed once.

Covers: keeping a twin's state at the branch, and a unit's own copy of it, in whose options its answer stands. Does not
cover: which step that is (`units.branch_step`).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from octavo.train.recipes import Recipe


def keep(folder: Path) -> None:
    """Keep the checkpoint and the log of the twin in `folder` as its branch."""
    work = folder / f"branch.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "checkpoint", work / "checkpoint")
    shutil.copy(folder / "log.jsonl", work / "log.jsonl")
    work.rename(folder / "branch")


def kept(folder: Path) -> bool:
    """Whether the twin in `folder` has a branch."""
    return (folder / "branch").is_dir()


def begin(twin: Path, own: Path, chosen: Recipe) -> None:
    """Put the branch of `twin` into the folder `own` (which may be the twin's) as the checkpoint of a run by `chosen`.
    """
    shutil.rmtree(own / "checkpoint", ignore_errors=True)
    shutil.copytree(twin / "branch" / "checkpoint", own / "checkpoint")
    shutil.copy(twin / "branch" / "log.jsonl", own / "log.jsonl")
    path = own / "checkpoint" / "checkpoint.json"
    meta = json.loads(path.read_text())
    meta["recipe"] = chosen.name
    meta["parts"]["stabilise"] |= {"config": asdict(chosen.stabilise), "begins": chosen.stabilise.always}
    path.write_text(json.dumps(meta))
