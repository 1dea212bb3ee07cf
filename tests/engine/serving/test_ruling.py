"""Rules of an answer: where a grammar begins, and calls kept out of reasoning and of answers that may hold none."""

from __future__ import annotations

from typing import Any

import torch

from octavo.engine.serving.calls import calls_source
from octavo.engine.serving.grammar import Grammars
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.engine.serving.ruling import Both, NoCalls, Ruled, rule_of
from octavo.text.special import Special
from octavo.text.template import CALLS_OPEN
from octavo.text.tokenizer import Tokenizer

CALLS = Grammar(kind=GrammarKind.CALLS, source=calls_source([{"name": "f", "parameters": {}}]))


def job(**fields: Any) -> Job:
    return Job(id="a", prompt=(1,), **fields)


def allowed(rule: Any, grammars: Grammars) -> set[int]:
    logits = rule.allowed(torch.zeros(grammars.vocab_size + 3), ())  # a model may have more ids than its tokenizer
    return set(torch.isfinite(logits).nonzero()[:, 0].tolist())


def test_a_job_that_says_nothing_has_no_rule(grammars: Grammars) -> None:
    assert rule_of(job(), grammars) is None
    assert isinstance(rule_of(job(no_calls=True), grammars), NoCalls)
    assert isinstance(rule_of(job(grammar=CALLS), grammars), Ruled)


def test_a_grammar_begins_behind_its_token(grammars: Grammars, tokenizer: Tokenizer) -> None:
    end = tokenizer.special(Special.END_THINK)
    rule = rule_of(job(grammar=Grammar(kind=GrammarKind.REGEX, source="a"), grammar_after=end), grammars)
    assert rule is not None
    assert len(allowed(rule, grammars)) == grammars.vocab_size + 3
    rule.push(end)
    assert allowed(rule, grammars) == set(tokenizer.encode("a"))


def test_before_forced_calls_reasoning_ends_only_by_its_mark(grammars: Grammars, tokenizer: Tokenizer) -> None:
    end = tokenizer.special(Special.END_THINK)
    rule = rule_of(job(grammar=CALLS, grammar_after=end), grammars)
    assert rule is not None
    kept_out = set(range(grammars.vocab_size + 3)) - allowed(rule, grammars)
    assert kept_out == {grammars.mark, grammars.eos}
    spelled = tokenizer.encode(f"x {CALLS_OPEN}")
    place = next(n for n in range(len(spelled)) if Special.DSML in tokenizer.decode(spelled[: n + 1]))
    for token in spelled[:place]:
        assert token in allowed(rule, grammars)
        rule.push(token)
    assert spelled[place] not in allowed(rule, grammars)
    rule.push(end)
    assert all(tokenizer.token_bytes(token).startswith(b"\n") for token in allowed(rule, grammars))


def test_two_rules_hold_at_once(grammars: Grammars) -> None:
    class Only:
        watches = True

        def __init__(self) -> None:
            self.pushed: list[int] = []

        def allowed(self, logits_V: torch.Tensor, reports: Any) -> torch.Tensor:
            kept = torch.tensor([grammars.mark, 40, 41])
            return torch.full_like(logits_V, -torch.inf).index_copy(0, kept, logits_V[kept])

        def push(self, token: int) -> None:
            self.pushed.append(token)

    one = Only()
    rule = Both(one, NoCalls(grammars.unsaid, (grammars.mark,)))
    assert allowed(rule, grammars) == {40, 41}
    rule.push(40)
    assert one.pushed == [40]
    assert rule.watches
    one.watches = False
    assert not rule.watches
