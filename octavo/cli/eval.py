"""`octavo eval`: measure a model on tasks with known answers. Covers: the flags; each task has a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from octavo.cli import eval_anatomy, eval_facts, eval_javascript, eval_recall


@dataclass(frozen=True, kw_only=True)
class Command:
    """Measure a model on tasks with known answers: shares of right answers with 95 % intervals."""

    task: Positional[Literal["recall", "anatomy", "facts", "javascript"]]
    """recall: documents with known answers, in wordings that training never drew; anatomy: what became of the answer's
    place in each layer, and what repairs a miss; facts: answers known by heart; javascript: functions, run."""
    kinds: tuple[str, ...] = ()
    """What is asked: fact, quotation, speaker (these if left out), chapter, definition, key_value, multi_key,
    multi_value, two_hop, two_hop_steps, tracking, ordering, counting, work. facts: invented, never (these if left out),
    real. javascript: complete (if left out), chat."""
    text: str | None = None
    """What documents are made of: a file of held-out text; left out: shakespeare, the installed plays. facts: a file of
    questions, left out: towns that octavo-s was shown. javascript: a file of our tasks or of HumanEval-X; left out:
    count functions of the generator's families and half as many composed."""
    lengths: tuple[str, ...] = ("8K",)
    """Tokens of the documents: numbers, or with K (1024) or M (1024 x 1024)."""
    count: int = 64
    """Questions in each document, or functions of families, with half as many composed ones beside them; of facts: for
    each number of times that they were shown."""
    controls: bool = False
    """Also ask with random picks, with the dense compressed layers off, and in any words, up to 32K tokens. facts: also
    with Engram off, and with its rows permuted."""
    index_topk: int | None = None
    """Compressed rows picked for each token; left out: what the model was trained for."""
    model: str = "octavo-xs"
    """Shipped model, folder or hub id."""
    device: str = "cpu"
    """cpu (arithmetic in float32) or cuda (in bfloat16)."""
    main: Literal["fp32", "bf16", "fp8", "fp4"] | None = None
    """Format of the compressed entries; left out: that of the arithmetic."""
    out: str | None = None
    """A folder for recall.json (or the task's name), with every answer, and the page as .md."""
    json: bool = False
    """Print one JSON object, every answer included."""

    def run(self) -> None:
        """Measure and print."""
        tasks = {"recall": eval_recall, "anatomy": eval_anatomy, "facts": eval_facts, "javascript": eval_javascript}
        tasks[self.task].run(self)
