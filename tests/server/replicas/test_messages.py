"""Messages survive the way between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from octavo.server.replicas.messages import Asked, Head, Hint, Over, Taken

HINT = Hint(owner="a", loads={"a": 1}, slack=2, avoid=frozenset("b"))
ASKED = Asked(
    method="POST", path="/v1/x", raw_path=b"/v1/x", query=b"a=1", headers=((b"host", b"h"),), caller="key 1",
    body=Path("form"), hint=HINT,
)  # fmt: skip


@pytest.mark.parametrize("message", [ASKED, HINT, Taken(replica="a"), Head(status=200, headers=()), Over(whole=False)])
def test_they_are_the_same_behind_it(message: object) -> None:
    assert pickle.loads(pickle.dumps(message)) == message
