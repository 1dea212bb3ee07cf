"""The answer loop: equal to a loop written out by hand, its ends, its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.config.errors import LimitError, UsageError
from octavo.engine.answer import Finish
from octavo.engine.attention import MassRule, MassTally
from octavo.engine.generation import Generation
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.model.block import BlockReport
from tests.support.tiny_llm import tiny_llm

PROMPT = [0, *range(100, 140)]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"))


def generation(llm: LLM, tally: MassTally | None = None, **fields: object) -> Generation:
    request = Request(**fields)  # type: ignore[arg-type]
    return Generation(llm.runner, llm.tokenizer, llm.new_state(), PROMPT, request, tally=tally)


def by_hand(llm: LLM, count: int) -> list[int]:
    """Greedy tokens, each from the whole sequence again."""
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(llm.logits(ids)[-1].argmax()))
    return ids[len(PROMPT) :]


def test_greedy_equals_reading_everything_again_for_each_token(llm: LLM) -> None:
    made = generation(llm, max_tokens=12)
    text = made.run()
    assert made.token_ids == by_hand(llm, 12)
    assert text == llm.tokenizer.decode(made.token_ids)
    assert made.finish_reason is Finish.LENGTH
    assert made.state.length == len(PROMPT) + 11
    assert 0 < made.first_token_seconds <= made.seconds


def test_pieces_join_to_the_text_and_none_is_empty(llm: LLM) -> None:
    made = generation(llm, max_tokens=20, temperature=1.5, seed=2)
    pieces = list(made)
    assert all(pieces)
    assert "".join(pieces) == made.text == llm.tokenizer.decode(made.token_ids)


def test_seed_repeats_whatever_runs_between(llm: LLM) -> None:
    alone = generation(llm, max_tokens=10, temperature=1.0, seed=7)
    alone.run()
    mixed = generation(llm, max_tokens=10, temperature=1.0, seed=7)
    other = generation(llm, max_tokens=5, temperature=1.0)
    steps = iter(other)
    for _ in mixed:
        torch.rand(5)
        next(steps, None)
    assert mixed.token_ids == alone.token_ids
    different = generation(llm, max_tokens=10, temperature=1.0, seed=8)
    different.run()
    assert different.token_ids != alone.token_ids


def test_end_token_ends_and_is_not_part_of_the_text(tmp_path: Path) -> None:
    plain = tiny_llm(tmp_path / "plain")
    tokens = by_hand(plain, 6)
    end = next(token for token in tokens[1:] if token != tokens[0])
    ending = tiny_llm(tmp_path / "ending", eos_token_id=end)
    made = generation(ending, max_tokens=6)
    made.run()
    assert made.finish_reason is Finish.END
    assert made.token_ids == tokens[: tokens.index(end)]


def test_stop_string_ends_and_no_part_of_it_comes_out(llm: LLM) -> None:
    whole = generation(llm, max_tokens=20).run()
    stop = whole[5:8]
    made = generation(llm, max_tokens=20, stop=stop)
    assert made.run() == whole[: whole.index(stop)]
    assert made.finish_reason is Finish.STOP
    assert len(made.token_ids) < 20


def test_end_of_the_context_ends(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, max_position_embeddings=len(PROMPT) + 3)
    made = generation(llm, max_tokens=20)
    made.run()
    assert made.finish_reason is Finish.CONTEXT
    assert len(made.token_ids) == 4  # the last one made is never read


def test_prompt_must_fit_and_must_not_be_empty(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, max_position_embeddings=len(PROMPT) - 1)
    state = llm.new_state()
    with pytest.raises(LimitError, match="the context of this model ends at 40"):
        Generation(llm.runner, llm.tokenizer, state, PROMPT, Request())
    with pytest.raises(UsageError, match="no tokens"):
        Generation(llm.runner, llm.tokenizer, state, [], Request())
    assert state.length == 0


def test_generation_can_be_taken_once_and_says_when_it_is_not_done(llm: LLM) -> None:
    made = generation(llm, max_tokens=2)
    with pytest.raises(UsageError, match="not complete"):
        _ = made.finish_reason
    made.run()
    with pytest.raises(UsageError, match="made already"):
        made.run()


def test_mass_is_taken_on_the_question_and_on_every_answer_token(llm: LLM) -> None:
    tally = MassTally(llm.config, len(PROMPT), MassRule(question=0.0))
    made = generation(llm, tally, max_tokens=3)
    made.run()
    assert tally.steps == 3
    with_question = MassTally(llm.config, len(PROMPT), MassRule())
    generation(llm, with_question, max_tokens=3).run()
    only = MassTally(llm.config, len(PROMPT), MassRule())
    generation(llm, only, max_tokens=1).run()
    assert np.allclose(tally.weights() + only.weights(), with_question.weights())
    assert only.weights().sum() > 0


class Anything:
    """A rule that lets all tokens come and looks at attention for the first `looks` of them."""

    def __init__(self, looks: int) -> None:
        self.left, self.seen = looks, list[bool]()

    @property
    def watches(self) -> bool:
        return self.left > 0

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        self.seen.append(any(report.mass for report in reports))
        return logits_V

    def push(self, token: int) -> None:
        self.left -= 1


@pytest.mark.parametrize("draft", [0, 2])
@pytest.mark.parametrize("looks", [0, 1, 3, 9])
def test_mass_is_taken_only_while_a_rule_looks_at_it(tmp_path: Path, looks: int, draft: int) -> None:
    llm = tiny_llm(tmp_path / "m", num_nextn_predict_layers=1)

    def made(rule: Anything | None, tally: MassTally | None = None) -> Generation:
        request, state = Request(max_tokens=8, draft=draft), llm.new_state()
        return Generation(llm.runner, llm.tokenizer, state, PROMPT, request, tally=tally, quotation=rule)

    plain, rule = made(None), Anything(looks)
    plain.run()
    ruled = made(rule)
    ruled.run()
    assert ruled.token_ids == plain.token_ids
    if not draft:  # rows of drafts may be there already
        assert rule.seen == [place < looks for place in range(len(rule.seen))]
    assert rule.seen[0] == (looks > 0)
    assert rule.seen[-1] == (looks > 8)
    told = Anything(0)
    made(told, MassTally(llm.config, len(PROMPT), MassRule())).run()
    assert all(told.seen)


def test_an_answer_under_a_rule_takes_steps_beside_others(llm: LLM) -> None:
    """Wherever a plain one does, once the rule does not look at attention."""
    plain = generation(llm, max_tokens=8)
    plain.advance()
    rule = Anything(1)
    ruled = Generation(llm.runner, llm.tokenizer, llm.new_state(), PROMPT, Request(max_tokens=8), quotation=rule)
    assert ruled.beside() is None
    ruled.advance()
    assert (ruled.beside() is None) == (plain.beside() is None)
    for made in (plain, ruled):
        made.close()
        made.state.close()
