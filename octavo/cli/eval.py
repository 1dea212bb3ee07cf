"""`octavo eval`: measure a model on tasks with known answers. The one task today is `recall`."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from octavo.cli.output import put
from octavo.cli.progress import Steps

_ROOM = 65_536  # tokens of cache beyond the longest document: its length is met within 2 %, questions come on top


@dataclass(frozen=True, kw_only=True)
class Command:
    """Measure a model on tasks with known answers: right answers with 95 % intervals, by length and depth."""

    task: Positional[Literal["recall"]]
    """recall: documents with known answers, asked in wordings that training never drew."""
    kinds: tuple[str, ...] = ("fact", "quotation", "speaker")
    """What is asked: fact, quotation, speaker, chapter, definition, key_value."""
    text: str = "shakespeare"
    """What documents are made of: a file of held-out text, or shakespeare for the installed plays."""
    lengths: tuple[str, ...] = ("8K",)
    """Tokens of the documents: numbers, or with K (1024) or M (1024 x 1024)."""
    count: int = 64
    """Questions in each document."""
    controls: bool = False
    """Also ask with random picks, with the dense compressed layers off, and in any words, up to 32K tokens."""
    index_topk: int | None = None
    """Compressed rows picked for each token; left out: what the model was trained for."""
    model: str = "octavo-xs"
    """Shipped model, folder or hub id."""
    device: str = "cpu"
    """cpu (arithmetic in float32) or cuda (in bfloat16)."""
    main: Literal["fp32", "bf16", "fp8", "fp4"] | None = None
    """Format of the compressed entries; left out: that of the arithmetic."""
    out: str | None = None
    """A folder for recall.json, with every answer, and recall.md."""
    json: bool = False
    """Print one JSON object, every answer included."""

    def run(self) -> None:
        """Measure and print."""
        import octavo
        from octavo.engine.plan import parse_context
        from octavo.evals.report import to_json, to_markdown, write
        from octavo.evals.runner import CONTROLS, RecallPlan, run_recall

        plan = RecallPlan(
            cells=tuple((kind, self.text) for kind in self.kinds),
            lengths=tuple(parse_context(length) for length in self.lengths),
            count=self.count,
            controls=tuple(CONTROLS) if self.controls else (),
            index_topk=self.index_topk,
        )
        room = None if self.device == "cpu" else max(plan.lengths) + _ROOM
        # The evals take anything that reads and answers, by keyword options.
        dtype = "float32" if self.device == "cpu" else "bfloat16"
        model: Any = octavo.load(self.model, dtype, device=self.device, main=self.main, capacity_tokens=room)
        about = {"model": self.model, "fingerprint": model.fingerprint, "octavo": octavo.__version__}
        about |= {"index_topk": self.index_topk, "machine": platform.machine(), "python": platform.python_version()}
        about |= {"device": self.device, "dtype": dtype, "main": model.pool.layout.main.value}
        results = []
        with Steps() as steps:
            for result in run_recall(model, model.tokenizer, plan, progress=steps):
                results.append(result)
                if self.out is not None:  # after every cell, so that an interrupt keeps those that are done
                    write(results, Path(self.out), about=about)
        put((to_json(results, about=about) if self.json else to_markdown(results)).rstrip("\n"))
