"""Drafts and their verification: the same bits, tokens, ends and states as without drafts, and right distributions."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.engine import speculative
from octavo.engine.answer import Finish
from octavo.engine.attention import MassRule, MassTally
from octavo.engine.drafter import Drafter
from octavo.engine.generation import Generation
from octavo.engine.llm import LLM
from octavo.engine.request import MAX_DRAFT, Request
from octavo.engine.runner import Runner
from octavo.engine.speculative import Decoding
from tests.support.bodies import COMPILED
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram
from tests.support.tiny_llm import STORY, tiny_llm
from tests.support.training import trained_on_walks, walks

PROMPT = [0, *range(100, 140)]
DRAFTS = range(1, MAX_DRAFT + 1)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    fields = {"num_nextn_predict_layers": 1, "engram": tiny_engram()}
    return tiny_llm(tmp_path_factory.mktemp("model"), **fields)


def fresh(llm: LLM) -> SequenceState:
    """A state that cannot read again: a rollback beyond the rows that are kept raises LimitError."""
    state = llm.new_state()
    state._replay = None
    return state


def generation(llm: LLM, tally: MassTally | None = None, **fields: Any) -> Generation:
    return Generation(llm.runner, llm.tokenizer, fresh(llm), PROMPT, Request(**fields), tally=tally)


def finished(llm: LLM, **fields: Any) -> Generation:
    made = generation(llm, **fields)
    made.run()
    return made


def proposing(monkeypatch: pytest.MonkeyPatch, truth: Sequence[int], *, right: Callable[[int], bool]) -> None:
    """Let drafts be the tokens of `truth` [numbered as in the sequence] where `right(number)`, else others."""

    def propose(self: Drafter, streams: torch.Tensor, following: list[int], *, first: int, count: int) -> list[int]:
        assert len(streams) == len(following)
        at = first + len(following) + 1
        return [truth[n] if right(n) else (truth[n] + 1) % 380 for n in range(at, at + count)]

    monkeypatch.setattr(Drafter, "propose", propose)


def of_runner(config: ModelConfig, *, dtype: torch.dtype = torch.float32, main: str = "fp32") -> Runner:
    model = build_model(config, random_tensors(config, 0), dtype=dtype)
    layout = CacheLayout(config, main=RowFormat(main), index=RowFormat("fp32" if main == "fp8" else main))
    return Runner(model, PagePool(layout, capacity_tokens=2048), chunk=64)


WORLDS = {
    "all kinds": (tiny_config(max_position_embeddings=4096), "fp32"),
    "engram v41": (tiny_config(max_position_embeddings=4096, engram=tiny_engram()), "fp32"),
    "engram v1": (tiny_config(max_position_embeddings=4096, engram=tiny_engram("v1")), "fp32"),
    "window": (tiny_config(max_position_embeddings=4096, compress_ratios=(0, 0)), "fp32"),
    "fp8 rows": (tiny_config(max_position_embeddings=4096, head_dim=80), "fp8"),
    "odd widths": (tiny_config(max_position_embeddings=4096, num_attention_heads=6, moe_intermediate_size=22), "fp32"),
}


# 28: CSA entries pass the top-k; 124: the first HCA entry closes, inside the step
@pytest.mark.parametrize("read", [1, 28, 124, 300])
@pytest.mark.parametrize("world", WORLDS)
def test_a_step_of_several_tokens_has_the_bits_of_single_ones(world: str, read: int) -> None:
    config, main = WORLDS[world]
    runner = of_runner(config, main=main)
    assert speculative.rows_alike(runner.model)
    ids = torch.randint(16, 380, (read + 8,), generator=torch.Generator().manual_seed(3)).numpy()
    before, loud = runner.new_state(), Controls(mass=True)
    runner.read(ids[:read], before)
    single = before.fork()
    singles = [runner.step(ids[n : n + 1], single, controls=loud) for n in range(read, read + 8)]
    tallies = [MassTally(config, read + 8, MassRule()) for _ in range(2)]
    for count in range(2, 9):
        together = before.fork()
        steps = Decoding(runner, together, controls=loud)
        made = runner.step(ids[read : read + count], together, controls=loud, all_rows=True)
        assert torch.equal(made.logits, torch.cat([one.logits for one in singles[:count]]))
        assert torch.equal(made.streams, torch.cat([one.streams for one in singles[:count]]))
        steps._take(made, ids[read : read + count].tolist())
        for row, one in enumerate(singles[:count]):
            steps._at = row
            tallies[0].add(steps._row().reports)
            tallies[1].add(one.reports)
            assert np.array_equal(tallies[0].weights(), tallies[1].weights())


@pytest.mark.parametrize("draft", DRAFTS)
def test_greedy_tokens_are_those_without_drafts(llm: LLM, draft: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = PROMPT + finished(llm, max_tokens=60, draft=0).token_ids
    plain_tally, tally = (MassTally(llm.config, len(PROMPT), MassRule()) for _ in range(2))
    plain = generation(llm, plain_tally, max_tokens=40, draft=0)
    plain.run()
    draw = random.Random(draft)
    hit = [draw.random() < 0.7 for _ in truth]
    proposing(monkeypatch, truth, right=hit.__getitem__)
    made = generation(llm, tally, max_tokens=40, draft=draft)
    assert made.run() == plain.text
    assert made.token_ids == plain.token_ids
    assert (plain.drafted_tokens, plain.accepted_tokens) == (0, 0)
    assert 0 < made.accepted_tokens < made.drafted_tokens
    assert made._steps.steps == 39 - made.accepted_tokens
    assert (tally.steps, tally.weights().tolist()) == (40, plain_tally.weights().tolist())
    assert made.state.tokens.tolist() == plain.state.tokens.tolist()
    made.state.check_integrity()
    after = [llm.runner.step(np.array([200, 201]), state, all_rows=True).logits for state in (made.state, plain.state)]
    assert torch.equal(*after)


@pytest.mark.parametrize("draft", [1, 2, 5, 7])
@pytest.mark.parametrize("seed", [1, 2])
def test_drafts_of_the_models_own_change_nothing(llm: LLM, draft: int, seed: int) -> None:
    ids = torch.randint(16, 380, (65,), generator=torch.Generator().manual_seed(seed)).tolist()
    made = []  # the prompt's last pass has one token, so the predictor begins with one row
    for count in (0, draft):
        made.append(Generation(llm.runner, llm.tokenizer, fresh(llm), ids, Request(max_tokens=50, draft=count)))
        made[-1].run()
    assert made[0].token_ids == made[1].token_ids
    assert made[1].drafted_tokens > 40


@pytest.mark.parametrize("draft", DRAFTS)
def test_ends_inside_an_accepted_run(llm: LLM, draft: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finished(llm, max_tokens=60, draft=0)
    truth = PROMPT + whole.token_ids
    proposing(monkeypatch, truth, right=lambda _: True)
    for most in range(1, 12):
        made = finished(llm, max_tokens=most, draft=draft)
        assert (made.finish_reason, made.token_ids) == (Finish.LENGTH, whole.token_ids[:most])
        assert made.state.tokens.tolist() == truth[: len(PROMPT) + most - 1]
    text = llm.tokenizer.decode(whole.token_ids)
    for at in range(4, 9):
        plain, made = (finished(llm, max_tokens=40, stop=text[at : at + 3], draft=count) for count in (0, draft))
        assert made.finish_reason is Finish.STOP
        assert (made.text, made.token_ids) == (plain.text, plain.token_ids)
        assert made.state.tokens.tolist() == plain.state.tokens.tolist()


@pytest.mark.parametrize("draft", [1, 4, 7])
def test_end_token_and_end_of_the_context(
    llm: LLM, tmp_path: Path, draft: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = PROMPT + finished(llm, max_tokens=60, draft=0).token_ids
    end = next(token for token in truth[len(PROMPT) + 5 :] if token not in truth[: len(PROMPT) + 5])
    room = len(PROMPT) + 9
    fields: dict[str, Any] = {"num_nextn_predict_layers": 1, "engram": tiny_engram(), "max_position_embeddings": room}
    free: dict[str, Any] = fields | {"max_position_embeddings": 4096, "eos_token_id": end}
    proposing(monkeypatch, truth, right=lambda _: True)
    short = tiny_llm(tmp_path / "short", **fields)
    ending = tiny_llm(tmp_path / "ending", **free)
    for model, finish in ((short, Finish.CONTEXT), (ending, Finish.END)):
        plain, made = (finished(model, max_tokens=40, draft=count) for count in (0, draft))
        assert made.finish_reason is plain.finish_reason is finish
        assert made.token_ids == plain.token_ids
        assert made.state.tokens.tolist() == plain.state.tokens.tolist()
        assert made.accepted_tokens > 0


def test_an_answer_that_is_given_up_leaves_no_drafts_behind(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = PROMPT + finished(llm, max_tokens=60, draft=0).token_ids
    proposing(monkeypatch, truth, right=lambda _: True)
    made = generation(llm, max_tokens=30, draft=7)
    pieces = iter(made)
    next(pieces)
    while len(made.token_ids) < 4:
        next(pieces)
    assert made.state.length > len(PROMPT) + len(made.token_ids)
    assert isinstance(pieces, Generator)
    pieces.close()
    assert made.state.tokens.tolist() == truth[: len(PROMPT) + len(made.token_ids) - 1]


@pytest.mark.parametrize("quote", [True, False])
def test_answers_about_a_document_are_the_same_with_their_sources(
    llm: LLM, quote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafted = accepted = 0
    with llm.read(STORY * 3) as doc:
        for question in ("Who?", "What is the secret word?", "Where is the ship?"):
            plain = doc.ask(question, max_tokens=14, quote=quote, draft=0)
            truth = [*doc.texts.ids.tolist(), *doc.question_ids(question), *plain.token_ids, *[17] * 20]
            proposing(monkeypatch, truth, right=lambda n: n % 5 > 0)
            made = doc.ask(question, max_tokens=14, quote=quote, draft=3)
            assert (made.text, made.token_ids, made.sources) == (plain.text, plain.token_ids, plain.sources)
            assert plain.sources
            assert plain.usage.drafted_tokens == 0
            assert made.to_dict()["usage"]["accepted_tokens"] == made.usage.accepted_tokens
            drafted, accepted = drafted + made.usage.drafted_tokens, accepted + made.usage.accepted_tokens
    assert 0 < accepted < drafted


def test_a_conversation_goes_on_the_same(llm: LLM) -> None:
    said = []
    for draft in (0, 3):
        with llm.read(STORY) as doc, doc.converse(max_tokens=12, draft=draft) as talk:
            said.append([talk.say(line).text for line in ("Who?", "What is the secret word?")])
            assert (talk.say("Where?").usage.drafted_tokens > 0) == (draft > 0)
    assert said[0] == said[1]


@pytest.mark.parametrize("fields", [{"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9, "top_k": 40}])
def test_a_seed_draws_the_tokens_that_it_draws_without_drafts(
    llm: LLM, fields: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        plain = finished(llm, max_tokens=60, draft=0, seed=seed, **fields)
        with monkeypatch.context() as patch:
            proposing(patch, PROMPT + plain.token_ids, right=lambda n: n % 5 > 0)
            made = finished(llm, max_tokens=40, draft=3, seed=seed, **fields)
        assert made.token_ids == plain.token_ids[:40]
        assert 0 < made.accepted_tokens < made.drafted_tokens


def chi_square(counts: np.ndarray, chances: np.ndarray) -> float:
    expected = chances * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def test_drawn_answers_have_the_distribution_of_the_model(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens from the two likeliest of each place: 8 answers, 7 degrees of freedom, of which chi square passes
    24.3 once in a thousand times. The drafts are the likelier ones."""
    state = fresh(llm)
    llm.runner.read(np.array(PROMPT[:-1]), state)

    def chances(ids: list[int]) -> tuple[list[int], np.ndarray]:
        left, tokens = (llm.logits(PROMPT + ids)[-1].double() / 2.0).topk(2)
        return tokens.tolist(), left.softmax(0).numpy()

    answers: dict[tuple[int, ...], float] = {(): 1.0}
    likelier: dict[tuple[int, ...], int] = {}
    for _ in range(3):
        longer = {}
        for ids, chance in answers.items():
            tokens, shares = chances(list(ids))
            likelier[ids] = tokens[0]
            longer |= {(*ids, token): chance * share for token, share in zip(tokens, shares, strict=True)}
        answers = longer

    def propose(self: Drafter, streams: torch.Tensor, following: list[int], *, first: int, count: int) -> list[int]:
        said, drafts = following[-1:] if first + len(following) == len(PROMPT) else spoken[-2:], []
        for _ in range(count):
            drafts.append(likelier[(*said, *drafts)])
        return drafts

    monkeypatch.setattr(Drafter, "propose", propose)
    counts = dict.fromkeys(answers, 0)
    forced = dict.fromkeys(answers, 0)  # what taking every draft without asking would give
    accepted = 0
    for seed in range(800):
        twin = state.fork()
        request = Request(temperature=2.0, top_k=2, max_tokens=3, seed=seed, draft=2)
        made = Generation(llm.runner, llm.tokenizer, twin, PROMPT[-1:], request)
        spoken = made.token_ids
        made.run()
        counts[tuple(made.token_ids)] += 1
        first = made.token_ids[:1]
        forced[(*first, likelier[tuple(first)], likelier[(*first, likelier[tuple(first)])])] += 1
        accepted += made.accepted_tokens
        twin.close()
    expected = np.array(list(answers.values()))
    assert expected.min() > 0.02  # every answer is expected often enough for the statistic to hold
    assert chi_square(np.array(list(counts.values())), expected) < 24.3
    assert chi_square(np.array(list(forced.values())), expected) > 300
    assert 400 < accepted < 1400


def test_a_trained_predictor_saves_steps() -> None:
    model = trained_on_walks(steps=40)
    runner = Runner(model, PagePool(CacheLayout(model.config), capacity_tokens=1024), chunk=64)
    found = {}
    for draft in (0, 1, 3):
        steps, tokens = Decoding(runner, runner.new_state(), draft=draft), []
        row = steps.begin(walks(1, 12, seed=99)[0].numpy())
        while len(tokens) < 60:
            tokens.append(int(row.logits[0].argmax()))
            row = steps.next(tokens[-1], most=60 - len(tokens))
        found[draft] = (tokens, steps.steps)
        assert steps.steps == 60 - steps.accepted
    assert found[0][0] == found[1][0] == found[3][0]
    assert found[0][1] == 60
    assert found[1][1] < 45
    assert found[3][1] < found[1][1]


@pytest.mark.parametrize("doubt", ["as it is", "always"])
@pytest.mark.parametrize("world", ["fp64", "rounded inputs"])
def test_where_rows_round_otherwise_a_close_choice_is_made_by_a_step_of_its_own(
    world: str, doubt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"max_position_embeddings": 4096, "num_nextn_predict_layers": 1, "quant_sim": world != "fp64"}
    dtype, main = (torch.float64, "fp64") if world == "fp64" else (torch.float32, "fp32")
    runner = of_runner(tiny_config(**fields), dtype=dtype, main=main)
    assert not speculative.rows_alike(runner.model)
    assert speculative.closeness(runner.model) == (1e-9 if world == "fp64" else 0.05)
    found = []
    if doubt == "always":
        monkeypatch.setattr(speculative, "closeness", lambda _: 1e9)
    for draft in (0, 3):
        steps, tokens = Decoding(runner, runner.new_state(), draft=draft), []
        row = steps.begin(np.arange(100, 140))
        doubts = 0
        while len(tokens) < 30:
            if steps.doubtful(row.logits[0]):
                doubts += 1
                row = steps.again()
            tokens.append(int(row.logits[0].argmax()))
            row = steps.next(tokens[-1], most=30 - len(tokens))
        steps.close()
        found.append(tokens)
        assert steps.length == 40 + 30
        if draft and doubt == "always":
            assert doubts == 29  # all but the prompt's own row; the 30th is never chosen from
    assert found[0] == found[1]


def test_a_model_without_a_predictor_says_so_by_name_and_only_when_asked(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path / "octavo-none")
    assert finished(llm, max_tokens=3).drafted_tokens == 0
    assert finished(llm, max_tokens=3, draft=0).drafted_tokens == 0
    with pytest.raises(UsageError, match="draft is 2: octavo-none cannot draft tokens, it has no MTP block"):
        generation(llm, draft=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("draft", [1, 3, 7])
def test_greedy_tokens_on_a_gpu(draft: int) -> None:
    config = tiny_config(max_position_embeddings=4096, num_nextn_predict_layers=1)
    model = build_model(config, random_tensors(config, 0)).cuda()
    runner = Runner(model, PagePool(CacheLayout(config), capacity_tokens=2048, device="cuda"), chunk=64)
    found = []
    for count in (0, draft):
        steps, tokens = Decoding(runner, runner.new_state(), draft=count), []
        row = steps.begin(np.arange(100, 140))
        while len(tokens) < 40:
            row = steps.again() if steps.doubtful(row.logits[0]) else row
            tokens.append(int(row.logits[0].argmax()))
            row = steps.next(tokens[-1], most=40 - len(tokens))
        found.append(tokens)
    assert found[0] == found[1]


@pytest.mark.skipif(not COMPILED, reason="the package was built without a compiler, or for another processor")
def test_a_stretch_is_handed_over_behind_its_last_step_and_not_before() -> None:
    runner = of_runner(tiny_config())
    state = runner.new_state()
    steps = Decoding(runner, state)
    steps.begin(np.arange(16, 316))
    stretch = steps.stretch(most=2)
    assert stretch is not None
    seen = []
    for token in (20, 21):
        [row] = runner.together([stretch], [token])
        steps.took(token, row)
        seen.append((state.length, stretch.done, steps.length))
    assert seen == [(300, 1, 301), (302, 0, 302)]
