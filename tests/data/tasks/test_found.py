"""Sentences and speeches of texts."""

from random import Random

import pytest

from octavo.config.errors import LimitError
from octavo.data.tasks.cell import Maker, build_cell
from octavo.data.tasks.found import evenly, sentences, spoken_lines
from tests.support.small_text import SmallText, small_prose, small_text

PLAY = (
    "ACT I\n\n_Enter ALL_\n\nFIRST LORD:\nThe night is cold and long,\nAnd I am sick.\n\n"
    "QUEEN:\nGo home.\n_Exit_\n\nEnd."
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


def test_sentences_of_lines() -> None:
    text = 'Mr. Fox ran. "Why?" He "knew." No.\nA heading\n\nThe end!\n'
    assert [text[s.start : s.stop] for s in sentences(text)] == [
        "Mr. Fox ran.",
        '"Why?"',
        'He "knew."',
        "No.",
        "The end!",
    ]
    assert [s.words for s in sentences(text)] == [3, 1, 2, 1, 2]


def test_lines_of_speeches() -> None:
    found = spoken_lines(PLAY)
    assert [(line.name, line.number, PLAY[line.start : line.stop]) for line in found] == [
        ("FIRST LORD", 0, "The night is cold and long,"),
        ("FIRST LORD", 1, "And I am sick."),
        ("QUEEN", 0, "Go home."),
    ]


def test_evenly_takes_from_all_parts(world: SmallText) -> None:
    text = small_prose(100)
    maker = Maker(Random(1), text, world.tokenizer, 100, 20)
    chosen = evenly(sentences(text), maker, lambda s: True)
    assert [s.start * 20 // (sentences(text)[-1].stop + 1) for s in chosen] == list(range(20))
    with pytest.raises(LimitError, match="only 0 places"):
        evenly(sentences(text), maker, lambda s: False)


def test_quotation_goes_on_as_the_document_does(world: SmallText) -> None:
    cell = build_cell("quotation", 3000, 10**9, text=small_prose(200, seed=9), tokenizer=world.tokenizer, count=16)
    for question in cell.questions:
        sentence = cell.document[slice(*question.source)]
        quote = sentence[: -len(question.answer)].strip()
        assert sentence.endswith(question.answer)
        assert quote in question.prompt
        assert cell.document.count(quote) == 1


def test_speaker_cells_of_prose_are_plays(world: SmallText) -> None:
    cell = build_cell("speaker", 3000, 10**9, text=small_prose(300, seed=9), tokenizer=world.tokenizer, count=12)
    for question in cell.questions:
        line = cell.document[slice(*question.source)]
        assert line in question.prompt
        above = cell.document[: question.source[0]]
        assert above.rfind(f"{question.answer}:\n") >= above.rfind(":\n") - len(question.answer)


def test_speaker_cells_of_plays_keep_the_play(world: SmallText) -> None:
    draw = Random(1)
    text = "\n\n".join(f"LORD {draw.choice('ABCD')}:\n{small_prose(1, seed=i)[:70]}" for i in range(300))
    cell = build_cell("speaker", 2000, 10**9 + 1, text=text, tokenizer=world.tokenizer, count=12)
    assert {q.answer for q in cell.questions} <= {"LORD A", "LORD B", "LORD C", "LORD D"}
    assert all(q.marks == ("line 1-4",) for q in cell.questions)
