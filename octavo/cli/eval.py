"""`octavo eval`: measure a model on tasks with known answers. Covers `recall`; `javascript` has its own file."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from octavo.cli import eval_javascript
from octavo.cli.output import put
from octavo.cli.progress import Steps

_ROOM = 65_536  # tokens of cache beyond the longest document: its length is met within 2 %, questions come on top


@dataclass(frozen=True, kw_only=True)
class Command:
    """Measure a model on tasks with known answers: shares of right answers with 95 % intervals."""

    task: Positional[Literal["recall", "javascript"]]
    """recall: documents with known answers, in wordings that training never drew; javascript: functions, run."""
    kinds: tuple[str, ...] = ()
    """What is asked: fact, quotation, speaker (these if left out), chapter, definition, key_value, multi_key,
    multi_value, two_hop, two_hop_steps, tracking, ordering, counting. javascript: complete (if left out), chat."""
    text: str | None = None
    """What documents are made of: a file of held-out text; left out: shakespeare, the installed plays. javascript: a
    file of our tasks or of HumanEval-X; left out: count tasks of the held-out generator."""
    lengths: tuple[str, ...] = ("8K",)
    """Tokens of the documents: numbers, or with K (1024) or M (1024 x 1024)."""
    count: int = 64
    """Questions in each document, or functions."""
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
    """A folder for recall.json (javascript.json), with every answer, and the page as .md."""
    json: bool = False
    """Print one JSON object, every answer included."""

    def run(self) -> None:
        """Measure and print."""
        if self.task == "javascript":
            return eval_javascript.run(self)
        import octavo
        from octavo.engine.plan import parse_context
        from octavo.evals.report import to_json, to_markdown, write
        from octavo.evals.runner import CONTROLS, RecallPlan, run_recall

        kinds = self.kinds or ("fact", "quotation", "speaker")
        plan = RecallPlan(
            cells=tuple((kind, self.text or "shakespeare") for kind in kinds),
            lengths=tuple(parse_context(length) for length in self.lengths),
            count=self.count,
            controls=tuple(CONTROLS) if self.controls else (),
            index_topk=self.index_topk,
        )
        room = None if self.device == "cpu" else max(plan.lengths) + _ROOM
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
