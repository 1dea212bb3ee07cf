"""One answer of the completions protocol from its events: echoes, offsets, silence."""

from __future__ import annotations

from octavo.engine.answer import Finish
from octavo.engine.serving.events import Ended, JobUsage, Piece, Reading, Scored, Token
from octavo.server.protocol.completion_choice import Choice

BOS = Token(id=0, text=b"<bos>")
THE = Token(id=5, text=b"The", logprob=-1.5, rank=2, top=((6, b"A", -0.5), (5, b"The", -1.5)))
SEA = Token(id=7, text=" s\xe9a".encode(), logprob=-2.0, rank=9, top=((8, b" sky", -0.25), (6, b"A", -1.0)))
MADE = Token(id=9, text=b"!", logprob=-0.75, rank=1, top=((9, b"!", -0.75),))
PROMPT = Scored(id="a", tokens=(BOS, THE, SEA))
PIECE = Piece(id="a", text="!", tokens=(MADE,))
ENDED = Ended(id="a", finish=Finish.END, usage=JobUsage(prompt_tokens=3, answer_tokens=1))


def test_an_echo_leaves_out_what_the_server_put_in_front() -> None:
    one = Choice(index=3, echoed="The s\xe9a", added=1, top=1)
    assert one.take(Reading(id="a", done=1, total=3)) is None
    assert one.take(PROMPT) == {
        "index": 3, "text": "The s\xe9a", "finish_reason": None,
        "logprobs": {
            "tokens": ["The", " s\xe9a"], "token_logprobs": [-1.5, -2.0],
            "top_logprobs": [{"A": -0.5}, {" sky": -0.25}], "text_offset": [0, 3],
        },
    }  # fmt: skip
    one.take(PIECE)
    one.take(ENDED)
    whole = one.whole
    assert (whole["text"], whole["finish_reason"]) == ("The s\xe9a!", "stop")
    assert whole["logprobs"]["tokens"] == ["The", " s\xe9a", "!"]
    assert whole["logprobs"]["text_offset"] == [0, 3, 7]
    assert "prompt_logprobs" not in whole


def test_a_first_token_behind_nothing_has_no_log_probability() -> None:
    one = Choice(index=0, echoed="<bos>The", top=0)
    told = one.take(Scored(id="a", tokens=(BOS, THE)))
    assert told is not None
    assert told["logprobs"]["token_logprobs"] == [None, -1.5]
    assert told["logprobs"]["top_logprobs"] == [None, {}]


def test_without_an_echo_the_prompt_is_told_apart_or_not_at_all() -> None:
    one = Choice(index=0, prompt_top=1)
    for event in (PROMPT, PIECE, ENDED):
        one.take(event)
    assert one.whole["text"] == "!"
    assert one.whole["logprobs"] is None
    assert one.whole["prompt_logprobs"] == [
        None,
        {"6": {"logprob": -0.5, "rank": 1, "decoded_token": "A"},
         "5": {"logprob": -1.5, "rank": 2, "decoded_token": "The"}},
        {"8": {"logprob": -0.25, "rank": 1, "decoded_token": " sky"},
         "7": {"logprob": -2.0, "rank": 9, "decoded_token": " s\xe9a"}},
    ]  # fmt: skip


def test_a_silent_answer_is_empty_and_costs_nothing() -> None:
    one = Choice(index=0, echoed="The", top=0, is_silent=True)
    assert one.take(PIECE) is None
    last = one.take(ENDED)
    assert last is not None
    assert last["finish_reason"] == "length"
    assert one.whole["text"] == "The"
    assert one.end is not None
    assert one.end.usage.answer_tokens == 0
