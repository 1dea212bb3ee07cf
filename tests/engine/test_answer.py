"""The plain form of an answer."""

from __future__ import annotations

import json

from octavo.engine.answer import Answer, Finish, Prefix, Reply, Source, Usage
from octavo.text.parser import parse_completion


def test_json_form_has_the_promised_fields() -> None:
    source = Source(file="play.txt", start=3, end=9, text="heron.", weight=0.5)
    usage = Usage(reused_tokens=8, question_tokens=2, answer_tokens=1, prefix=Prefix.SNAPSHOT)
    answer = Answer(text="heron", sources=(source,), usage=usage, finish=Finish.END)
    plain = json.loads(json.dumps(answer.to_dict()))
    assert plain == {
        "answer": "heron",
        "sources": [{"file": "play.txt", "start": 3, "end": 9, "text": "heron.", "weight": 0.5}],
        "usage": {
            "read_tokens": 0,
            "reused_tokens": 8,
            "question_tokens": 2,
            "answer_tokens": 1,
            "drafted_tokens": 0,
            "accepted_tokens": 0,
            "seconds": 0.0,
            "cache_bytes": 0,
            "prefix": "snapshot",
            "finish": "end",
        },
    }


def test_text_of_a_reply_is_its_content() -> None:
    completion = parse_completion("because</think>heron", thinking=True)
    assert Reply(completion=completion, finish=Finish.END).text == "heron"
