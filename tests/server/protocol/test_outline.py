"""The frame of a document's map: texts, characters, bins."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.config.errors import LimitError
from octavo.engine.texts import Text
from octavo.server.protocol.outline import outline_body
from tests.support.tiny_llm import STORY, tiny_llm


def test_the_frame_of_two_texts(tmp_path: Path) -> None:
    other = "Rain came late in the évening. " * 6
    with tiny_llm(tmp_path).read([Text(name="a", text=STORY), Text(name="b", text=other)]) as document:
        body = outline_body(document, 20)
        assert body["tokens"] == len(document)
        assert [(file["name"], file["chars"]) for file in body["files"]] == [("a", len(STORY)), ("b", len(other))]
        entries = document.texts.entries
        assert [file["first_token"] for file in body["files"]] == [entry.first_token for entry in entries]
        assert [file["tokens"] for file in body["files"]] == [entry.tokens for entry in entries]
        assert [file for file, _ in body["starts"]] == sorted(file for file, _ in body["starts"])
        with pytest.raises(LimitError, match="bins is 0"):
            outline_body(document, 0)
