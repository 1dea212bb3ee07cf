"""Which tokens of an answer may come: what its job says about grammars and tool calls, as a rule of generation.

Covers: a grammar from the beginning or behind a think block, keeping tool calls out. Does not cover: grammars
themselves (`grammar`), quoting a document (`octavo.engine.quoting`), choosing a token (`octavo.engine.sampler`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from octavo.engine.generation import Rule
from octavo.engine.serving.grammar import Grammars, Matcher
from octavo.engine.serving.job import GrammarKind, Job
from octavo.engine.serving.unsaid import Unsaid

if TYPE_CHECKING:
    from octavo.model.block import BlockReport


def rule_of(job: Job, grammars: Grammars) -> Rule | None:
    """What the job's grammar and `no_calls` allow, None for everything. Raises as `Grammars.start` does.

    A grammar of calls that begins behind a think block holds in it too: reasoning ends only by its own mark, so that
    the calls do come, and none of them begins before.
    """
    if job.grammar is None:
        return NoCalls(grammars.unsaid, (grammars.mark,)) if job.no_calls else None
    matcher, before = grammars.start(job.grammar), None
    if job.grammar.kind is GrammarKind.CALLS:
        before = NoCalls(grammars.unsaid, (grammars.mark, grammars.eos))
    elif job.no_calls:
        before = NoCalls(grammars.unsaid, (grammars.mark,))
    return Ruled(matcher, job.grammar_after, before)


class Ruled:
    """A grammar as a rule; until token `after` came, where there is one, only `before` holds, if anything."""

    watches = False

    def __init__(self, matcher: Matcher, after: int | None, before: Rule | None = None) -> None:
        self._matcher, self._after, self._before = matcher, after, before

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        """See `Rule`."""
        if self._after is None:
            return self._matcher.mask(logits_V)
        return logits_V if self._before is None else self._before.allowed(logits_V, reports)

    def push(self, token: int) -> None:
        """See `Rule`."""
        if self._after is None:
            self._matcher.push(token)
        elif token == self._after:
            self._after = None
        elif self._before is not None:
            self._before.push(token)


class NoCalls:
    """Keeps tokens out, and whatever plain tokens would spell like the mark of tool calls."""

    watches = False

    def __init__(self, unsaid: Unsaid, tokens: Sequence[int]) -> None:
        self._unsaid, self._tokens, self._tail = unsaid, tuple(tokens), b""

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        """See `Rule`."""
        kept_out = [*self._tokens, *self._unsaid.completing(self._tail)]
        return logits_V.index_fill(0, torch.tensor(kept_out, device=logits_V.device), -torch.inf)

    def push(self, token: int) -> None:
        """See `Rule`."""
        self._tail = self._unsaid.after(self._tail, token)


class Both:
    """Two rules at once."""

    def __init__(self, one: Rule, other: Rule) -> None:
        self._rules = (one, other)

    @property
    def watches(self) -> bool:
        """See `Rule`."""
        return any(rule.watches for rule in self._rules)

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        """See `Rule`."""
        for rule in self._rules:
            logits_V = rule.allowed(logits_V, reports)
        return logits_V

    def push(self, token: int) -> None:
        """See `Rule`."""
        for rule in self._rules:
            rule.push(token)
