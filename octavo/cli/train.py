"""`octavo train`: a run by the name of its recipe. It saves as it goes, and the same command goes on from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from octavo.cli.output import put, put_json


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train by a recipe. The run saves as it goes; the same command goes on where it stopped."""

    recipe: Positional[str]
    """Name of the recipe."""
    pack: str
    """Folder of packed tokens, as `python -m octavo.data pack` writes it."""
    tokenizer: str
    """Folder of the tokenizer that packed them."""
    out: str
    """Folder for the log and the checkpoint."""
    weights: str | None = None
    """Folder for the weights and the tokenizer when the run stops, as `octavo read` takes them."""
    init_from: str | None = None
    """Folder of weights to start from; left out: random ones."""
    minutes: float | None = None
    """Stop, saved, after this long; left out: at the end of the schedule."""
    device: str = "cpu"
    """cpu or cuda."""
    workers: int = 0
    """Processes that make batches ahead; 0 makes them in this one."""
    micro_batches: int = 1
    """Parts in which a step's batch is computed; more take less memory."""
    parallel: str | None = None
    """How the ranks of torchrun divide the work, such as fsdp=2,ep=4 (dp, fsdp, cp, ep); left out: replicas."""
    json: bool = False
    """Print one JSON object at the end."""

    def run(self) -> None:
        """Train, and say how the run ended; its log goes to OUT/log.jsonl, and to stderr where that is no terminal."""
        from octavo.cli.progress import Training
        from octavo.train.loop import RunOptions
        from octavo.train.recipes import recipe
        from octavo.train.run import run

        seconds = None if self.minutes is None else self.minutes * 60
        options = RunOptions(
            out=Path(self.out),
            max_seconds=seconds,
            device=self.device,
            micro_batches=self.micro_batches,
            start=None if self.init_from is None else Path(self.init_from),
            weights=None if self.weights is None else Path(self.weights),
        )
        with Training(self.recipe, recipe(self.recipe).schedule.steps) as show:
            ended = run(
                self.recipe, pack=Path(self.pack), tokenizer=Path(self.tokenizer), options=options, show=show,
                workers=self.workers, parallel=self.parallel,
            )  # fmt: skip
        result = {"recipe": self.recipe, "out": self.out, "steps": ended.steps, "finished": ended.finished}
        if self.json:
            return put_json(result | {"last": ended.last})
        more = "the schedule is done" if ended.finished else "the same command goes on from there"
        put(f"{self.recipe}: {ended.steps:,} steps, saved in {self.out}: {more}")
