"""Jobs: what may be asked and what may not."""

from __future__ import annotations

import pytest

from octavo.config.errors import LimitError, OctavoError, UsageError
from octavo.engine.serving.job import Job


def test_defaults() -> None:
    job = Job(id="a", prompt=(1,))
    assert (job.document, job.priority, job.salt, job.top_logprobs, job.grammar, job.seconds) == (
        None, 0, "", None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"prompt": ()}, UsageError, "the prompt has no tokens"),
        ({"priority": 101}, LimitError, "priority is 101; it must be from -100 to 100"),
        ({"priority": -101}, LimitError, "priority is -101"),
        ({"top_logprobs": 21}, LimitError, "top_logprobs is 21; it must be from 0 to 20"),
        ({"top_logprobs": -1}, LimitError, "top_logprobs is -1"),
        ({"prompt_logprobs": 21}, LimitError, "prompt_logprobs is 21; it must be from 0 to 20"),
        ({"prompt_logprobs": 0, "prompt": (1,) * 65_537}, LimitError, "prompt is 65,537 tokens; log-probabilities are"),
        ({"seconds": 0}, LimitError, "seconds is 0; it must be above 0"),
        ({"seconds": float("nan")}, LimitError, "seconds is nan"),
        ({"sources": True}, UsageError, "need a document"),
        ({"quote": True}, UsageError, "need a document"),
        ({"bins": 0}, LimitError, "bins is 0; it must be from 1 to 2048"),
        ({"bins": 4}, UsageError, "bins need sources"),
    ],
)
def test_what_is_refused(fields: dict, error: type[OctavoError], message: str) -> None:
    with pytest.raises(error, match=message):
        Job(**({"id": "a", "prompt": (1,)} | fields))


@pytest.mark.parametrize("fields", [{"priority": 100}, {"priority": -100}, {"top_logprobs": 0}, {"top_logprobs": 20}])
def test_limits_themselves_are_allowed(fields: dict) -> None:
    assert Job(id="a", prompt=(1,), **fields)

