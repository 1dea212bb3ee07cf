"""Which of a few answers a model holds likeliest about a document that it has read.

Covers: the log-probability of answers behind a question. Does not cover: what the model writes of itself (`recall`),
facts known by heart (`facts_run`).

A model that was never shown how a kind of question is answered may still hold the right answer likelier than others;
who knows nothing is right once in as many as there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.engine.document import Document


def likeliest(
    document: Document, question: str, choices: Sequence[str], *, controls: Controls | None = None
) -> tuple[int, float]:
    """The number of the likeliest of `choices` (of equals the first), and the natural logarithm of the probability that
    it, and then the end, is the answer. All are written alike, with a space before them or without, whichever begins
    likelier over all choices.

    The question is read once; a choice whose first token alone is unlikelier than the best whole answer so far is not
    looked at. UsageError for no choices.
    """
    if not choices:
        raise UsageError("choices is empty; at least 1 is needed")
    llm = document.llm
    ways = [
        [[*llm.tokenizer.encode(f"{space}{choice}"), llm.config.eos_token_id] for choice in choices]
        for space in ("", " ")
    ]
    best: tuple[float, int] | None = None
    with closing(document.fork()) as state:
        asked = np.array(document.question_ids(question))
        first = llm.runner.read_last(asked, state, controls=controls).logits[-1].double().log_softmax(-1).cpu()
        way = max(ways, key=lambda way: float(first[sorted({ids[0] for ids in way})].logsumexp(0)))
        for number, ids in sorted(enumerate(way), key=lambda pair: -float(first[pair[1][0]])):
            if best is not None and float(first[ids[0]]) < best[0]:
                break
            score = _score(document, state, first, ids, controls)
            if best is None or (score, -number) > (best[0], -best[1]):
                best = score, number
    assert best is not None
    return best[1], best[0]


@torch.inference_mode()
def _score(
    document: Document, state: SequenceState, first: Tensor, ids: Sequence[int], controls: Controls | None
) -> float:
    """Log-probability of ids behind `state`, whose next token is told by `first` [V]."""
    with closing(state.fork()) as fork:
        rows = document.llm.runner.step(np.array(ids[:-1]), fork, controls=controls, all_rows=True).logits
    rows = rows.double().log_softmax(-1).cpu()
    return float(first[ids[0]] + rows[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum())
