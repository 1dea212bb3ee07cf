"""A conversation says what separate turns would say, and reads each turn once."""

from __future__ import annotations

import pytest

from octavo.config.errors import TextError, UsageError
from octavo.engine.answer import Prefix
from octavo.engine.llm import LLM
from tests.support.tiny_llm import STORY, tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"))


def test_turns_equal_the_whole_conversation_read_again(llm: LLM) -> None:
    with llm.converse(system="Be brief.", max_tokens=6) as talk:
        talk.say("Who wrote the date?")
        second = talk.say("And the ship?")
    assert [message["role"] for message in talk.messages] == ["system", *["user", "assistant"] * 2]
    assert second.text == llm.chat(talk.messages[:-1], max_tokens=6).text
    assert second.usage.reused_tokens > 0


def test_about_a_document_with_its_places(llm: LLM) -> None:
    with llm.read(STORY) as doc, doc.converse(max_tokens=5) as talk:
        first = talk.say("What is the secret word?")
        second = talk.say("Who knows it?")
        assert second.text == doc.chat(talk.messages[:-1], max_tokens=5).text
        assert first.usage.reused_tokens == len(doc) <= second.usage.reused_tokens
        assert first.usage.prefix is Prefix.MEMORY
        assert second.sources
        assert all(source.text == STORY[source.start : source.end] for source in second.sources)
        assert doc.state.length == len(doc.texts.ids)


def test_failed_turn_was_never_said(llm: LLM) -> None:
    with llm.converse(max_tokens=3) as talk:
        talk.say("One.")
        before = list(talk.messages)
        with pytest.raises(TextError):
            talk.reply({"role": "nobody"})
        assert talk.messages == before
        assert talk.say("Two.").text == llm.chat(talk.messages[:-1], max_tokens=3).text


def test_document_leaves_no_room_for_a_system_text(llm: LLM) -> None:
    from octavo.engine.conversation import Conversation

    with llm.read(STORY) as doc, pytest.raises(UsageError, match="document stands in its place"):
        Conversation(llm, document=doc, system="Be brief.")
