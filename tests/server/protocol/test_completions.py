"""POST /v1/completions on a real server: prompts of every kind, bodies, streams, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from octavo.engine.llm import LLM
from octavo.text.special import Special
from tests.support.serving import SECONDS, serving, stream_events

PROMPT = "The keeper of the lighthouse"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, LLM]]:
    with (
        serving(tmp_path_factory.mktemp("model")) as (address, service),
        httpx.Client(base_url=address, timeout=SECONDS) as client,
    ):
        yield client, service.llm


@pytest.fixture
def client(served: tuple[httpx.Client, LLM]) -> httpx.Client:
    return served[0]


@pytest.fixture
def llm(served: tuple[httpx.Client, LLM]) -> LLM:
    return served[1]


def post(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0} | fields
    told = client.post("/v1/completions", json=asked)
    assert told.status_code == 200, told.text
    return told.json()


def chunks(client: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "stream": True} | fields
    told = client.post("/v1/completions", json=asked)
    assert told.status_code == 200, told.text
    events = stream_events(told.text)
    assert events[-1] == (None, "[DONE]")
    return [value for name, value in events[:-1] if name is None]


def test_text_goes_on_as_generate_does(client: httpx.Client, llm: LLM) -> None:
    told = post(client)
    assert told.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert told["object"] == "text_completion"
    assert told["choices"] == [
        {"index": 0, "text": llm.generate(PROMPT, max_tokens=6).text, "logprobs": None, "finish_reason": "length"}
    ]
    assert told["usage"]["prompt_tokens"] == 1 + len(llm.tokenizer.encode(PROMPT))
    assert told["usage"]["completion_tokens"] == 6
    assert post(client, max_tokens=None)["usage"]["completion_tokens"] <= 16


def test_ids_are_taken_as_they_are(client: httpx.Client, llm: LLM) -> None:
    ids = [llm.tokenizer.special(Special.BOS), *llm.tokenizer.encode(PROMPT)]
    assert post(client, prompt=ids)["choices"] == post(client)["choices"]
    assert post(client, prompt=ids[1:])["usage"]["prompt_tokens"] == len(ids) - 1
    both = post(client, prompt=[ids, ids[:4]])
    assert both["usage"]["prompt_tokens"] == len(ids) + 4
    assert both["choices"][0]["text"] == post(client)["choices"][0]["text"]


def test_empty_prompt_is_begun_with_bos_alone(client: httpx.Client, llm: LLM) -> None:
    told = post(client, prompt="")
    assert told["usage"]["prompt_tokens"] == 1
    assert told["choices"][0]["text"] == llm.generate("", max_tokens=6).text


def test_answers_come_prompt_by_prompt_with_seeds_of_their_own(client: httpx.Client) -> None:
    prompts = [PROMPT, "The sea"]
    sampled = {"temperature": 1.0, "seed": 4}
    told = post(client, prompt=prompts, n=2, best_of=2, **sampled)
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    alone = [
        post(client, prompt=prompt, temperature=1.0, seed=4 + n)["choices"][0]["text"]
        for prompt in prompts
        for n in (0, 1)
    ]
    assert [choice["text"] for choice in told["choices"]] == alone
    assert told["usage"]["completion_tokens"] == 24
    streamed = ["", "", "", ""]
    for chunk in chunks(client, prompt=prompts, n=2, **sampled):
        streamed[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert streamed == alone


def test_echo_puts_the_prompt_first(client: httpx.Client, llm: LLM) -> None:
    text = post(client)["choices"][0]["text"]
    assert post(client, echo=True)["choices"][0]["text"] == PROMPT + text
    ids = llm.tokenizer.encode(PROMPT)
    assert post(client, echo=True, prompt=ids)["choices"][0]["text"].startswith(PROMPT)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks(client, echo=True)) == PROMPT + text


def test_logprobs_have_the_old_shape_and_true_offsets(client: httpx.Client) -> None:
    choice = post(client, logprobs=2, guided_regex="[a-z ]{40}", max_tokens=6)["choices"][0]
    told = choice["logprobs"]
    assert told.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert {len(one) for one in told.values()} == {6}
    assert "".join(told["tokens"]) == choice["text"]
    for token, offset in zip(told["tokens"], told["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)
    assert all(value <= 0 for value in told["token_logprobs"])
    assert all(len(top) == 2 for top in told["top_logprobs"])
    assert post(client, logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] == [{}] * 6


def direct(llm: LLM, ids: list[int]) -> torch.Tensor:
    """Natural log-probabilities [T, V] of the model itself, read in one pass outside any service."""
    return llm.runner.whole_logits(np.array(ids)).double().log_softmax(-1)


LONG = PROMPT + " wrote the date at the head of the page, and under it what the sea had brought." * 20


@pytest.mark.parametrize("prompt", [PROMPT, LONG])
@pytest.mark.parametrize("as_ids", [False, True])
def test_an_echoed_prompt_has_the_log_probabilities_of_the_model(
    client: httpx.Client, llm: LLM, prompt: str, as_ids: bool
) -> None:
    """Against one pass of the model itself; the longer prompt is read in several chunks. A text's first token stands
    behind the BOS token, which the server puts there; ids are taken as they are, so their first one has none."""
    own = llm.tokenizer.encode(prompt)
    bos = [] if as_ids else [llm.tokenizer.special(Special.BOS)]
    chances = direct(llm, [*bos, *own])
    choice = post(client, prompt=own if as_ids else prompt, echo=True, logprobs=3, max_tokens=2)["choices"][0]
    told, count = choice["logprobs"], len(own)
    assert {len(values) for values in told.values()} == {count + 2}
    assert "".join(told["tokens"][:count]) == prompt
    assert [choice["text"][at:][:3] for at in told["text_offset"][:count]] == [
        choice["text"][sum(map(len, told["tokens"][:n])) :][:3] for n in range(count)
    ]
    first = 1 if as_ids else 0
    assert told["token_logprobs"][:first] == told["top_logprobs"][:first] == [None] * first
    for place in range(first, count):
        row = chances[len(bos) + place - 1]
        assert told["token_logprobs"][place] == pytest.approx(float(row[own[place]]), abs=1e-4)
        best = row.topk(3).values.tolist()
        assert sorted(told["top_logprobs"][place].values(), reverse=True) == pytest.approx(best, abs=1e-4)
    plain = post(client, prompt=own if as_ids else prompt, logprobs=3, max_tokens=2)["choices"][0]
    assert choice["text"] == prompt + plain["text"]
    assert told["token_logprobs"][count:] == plain["logprobs"]["token_logprobs"]


def test_a_prompt_can_be_scored_without_an_answer(client: httpx.Client) -> None:
    """As harnesses of evaluations ask: nothing is made, or one token of which nobody takes note."""
    whole = post(client, echo=True, logprobs=1, max_tokens=1)
    none = post(client, echo=True, logprobs=1, max_tokens=0)
    assert none["choices"][0]["text"] == PROMPT
    assert none["choices"][0]["finish_reason"] == "length"
    assert none["usage"]["completion_tokens"] == 0
    for name, values in none["choices"][0]["logprobs"].items():
        assert values == whole["choices"][0]["logprobs"][name][: len(values)]
    assert len(whole["choices"][0]["logprobs"]["tokens"]) == len(none["choices"][0]["logprobs"]["tokens"]) + 1


def test_an_echo_with_log_probabilities_is_streamed_too(client: httpx.Client) -> None:
    fields = {"echo": True, "logprobs": 2, "prompt": [PROMPT, "The sea"], "n": 2, "seed": 1, "temperature": 1}
    whole, parts = post(client, **fields)["choices"], [chunk["choices"][0] for chunk in chunks(client, **fields)]
    for choice in whole:
        mine = [part for part in parts if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [one for part in mine for one in part["logprobs"][name]] == values


def test_prompt_logprobs_as_vllm_spells_them(client: httpx.Client, llm: LLM) -> None:
    own = llm.tokenizer.encode(PROMPT)
    ids, chances = [llm.tokenizer.special(Special.BOS), *own], direct(llm, [llm.tokenizer.special(Special.BOS), *own])
    choice = post(client, prompt_logprobs=2)["choices"][0]
    assert choice["logprobs"] is None
    first, *rest = choice["prompt_logprobs"]
    assert first is None
    assert len(rest) == len(own)
    for place, told in enumerate(rest):
        row, id = chances[place], ids[place + 1]
        assert told[str(id)]["logprob"] == pytest.approx(float(row[id]), abs=1e-4)
        assert told[str(id)]["rank"] == int((row > row[id]).sum()) + 1
        assert told[str(id)]["decoded_token"] == llm.tokenizer.token_bytes(id).decode("utf-8", "replace")
        assert {1, 2} <= {one["rank"] for one in told.values()}
        assert len(told) in (2, 3)
    assert post(client, prompt_logprobs=2, echo=True, logprobs=1)["choices"][0]["prompt_logprobs"] == [first, *rest]


def test_stream_says_what_the_body_says(client: httpx.Client) -> None:
    whole = post(client, logprobs=1)
    *steps, last = chunks(client, logprobs=1, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 6
    assert all(step["usage"] is None for step in steps)
    choices = [step["choices"][0] for step in steps]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    for name, value in whole["choices"][0]["logprobs"].items():
        assert [one for choice in choices for one in choice["logprobs"][name]] == value


def test_stop_string_ends_the_text(client: httpx.Client) -> None:
    text = post(client)["choices"][0]["text"]
    choice = post(client, stop=text[2:4])["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text[: text.index(text[2:4])], "stop")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [1, -1]}, "prompt[1]"),
        ({"prompt": [[1], [5, 10**6]]}, "prompt[1][1]"),
        ({"prompt": [1, True]}, "prompt[1]"),
        ({"prompt": ["a"] * 17}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 2}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logit_bias": {"5": 100}}, "logit_bias"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_by_name(
    client: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    told = client.post("/v1/completions", json={"model": "tiny", "prompt": PROMPT} | fields)
    assert told.status_code == 400, told.text
    assert told.json()["error"]["param"] == param


def test_other_models_and_documents_are_not_found(client: httpx.Client) -> None:
    told = client.post("/v1/completions", json={"model": "other", "prompt": "x"})
    assert (told.status_code, told.json()["error"]["code"]) == (404, "model_not_found")
    told = client.post("/v1/completions", json={"model": "tiny", "prompt": ["x", "y"], "document": "none"})
    assert (told.status_code, told.json()["error"]["code"]) == (404, "not_found")
