"""Made-up plays."""

from random import Random

from octavo.data.tasks.speaker import characters, layout, play, sentences, wrap
from tests.support.small_text import small_prose


def test_every_line_of_a_speech_follows_its_name() -> None:
    for seed in range(30):
        name = None
        for piece in play(Random(seed), small_prose(30), cast=6):
            if piece.kind == "name":
                name = piece.speech
            elif piece.kind == "line":
                assert piece.speech == name
                assert "\n" not in piece.text
                assert piece.text.strip()


def test_layouts_differ_and_the_plays_own_is_among_them() -> None:
    made = [layout(Random(seed)) for seed in range(400)]
    assert len({(m.before_name, m.after_name, m.indent) for m in made}) > 12
    assert any((m.before_name, m.after_name, m.line_end) == ("", ":\n", "\n") and m.capitals and m.verse for m in made)
    assert any((m.before_name, m.after_name, m.line_end) == ("**", "**  \n", "  \n") for m in made)


def test_names_are_one_to_three_words_and_differ() -> None:
    for seed in range(20):
        cast = characters(Random(seed), 12, capitals=seed % 2 == 0)
        assert len(set(cast)) == 12
        assert all(1 <= len(name.split()) <= 3 for name in cast)
        assert seed % 2 or all(name == name.upper() for name in cast)


def test_all_sentences_are_spoken_in_prose_layouts() -> None:
    prose = small_prose(20)
    for seed in range(40):
        pieces = play(Random(seed), prose, cast=5)
        spoken = [piece.text.strip() for piece in pieces if piece.kind == "line"]
        if max(map(len, spoken)) > 70:  # not set as verse
            assert spoken == sentences(prose)
            break
    else:
        raise AssertionError("no layout in prose was drawn")


def test_wrap_keeps_words_and_width() -> None:
    text = "one two three four five six seven"
    assert " ".join(wrap(text, 12)) == text
    assert max(map(len, wrap(text, 12))) <= 12
    assert wrap("", 10) == []
