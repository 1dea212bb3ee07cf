"""Whole rows: lengths, weights, spans, answers that stand in their source, tokens as the tokenizer would give them."""

import numpy as np
import pytest

from octavo.config.errors import LimitError
from octavo.data.rows import Mix, Row, make_row
from tests.support.small_text import SmallText, small_text

BOS, EOS, USER, ASSISTANT, END_THINK = 0, 1, 3, 4, 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=150)


def rows(world: SmallText, count: int = 24, length: int = 1024, mix: Mix | None = None) -> list[Row]:
    return [
        make_row(np.random.default_rng((7, i)), world.source, world.encode, length, mix or Mix()) for i in range(count)
    ]


def test_row_has_its_shape_and_begins_with_bos(world: SmallText) -> None:
    for length in (256, 1000, 1024):
        row = rows(world, 1, length)[0]
        assert (row.tokens.shape, row.tokens.dtype) == ((length,), np.uint16)
        assert (row.weight.shape, row.weight.dtype) == ((length,), np.float32)
        assert row.tokens[0] == BOS
        assert row.weight[0] == 0


def test_answers_and_their_end_weigh_one_questions_nothing(world: SmallText) -> None:
    for row in rows(world):
        ones = np.zeros(len(row.tokens), dtype=bool)
        zeros = np.zeros(len(row.tokens), dtype=bool)
        for question, answer, _, _ in row.span.tolist():
            stop = answer + int(np.flatnonzero(row.tokens[answer:] == EOS)[0]) + 1
            ones[answer:stop] = True
            zeros[question:answer] = True
            assert row.tokens[question] == USER
            assert row.tokens[answer - 2 : answer].tolist() == [ASSISTANT, END_THINK]
            assert stop > answer + 1
        assert (row.weight[ones] == 1).all()
        assert (row.weight[zeros] == 0).all()
        assert (row.weight[~ones] < 1).all()
        assert int((row.tokens == USER).sum()) == len(row.span) == len(row.kinds)


def test_text_weighs_what_the_mix_says(world: SmallText) -> None:
    row = rows(world, 1, mix=Mix(text_weight=0.25))[0]
    assert set(np.unique(row.weight).tolist()) <= {0.0, 0.25, 1.0}
    assert (row.weight == 0.25).mean() > 0.25


def test_answers_are_tokens_of_their_source(world: SmallText) -> None:
    seen = set()
    for row in rows(world, 40):
        for (question, answer, start, stop), kind in zip(row.span.tolist(), row.kinds, strict=True):
            assert 0 < start < stop <= question
            seen.add(kind)
            if kind in ("speaker", "chapter"):
                continue
            ids = row.tokens[answer:].tolist()
            ids = ids[: ids.index(EOS)]
            source = row.tokens[start:stop].tolist()
            assert any(source[i : i + len(ids)] == ids for i in range(len(source))), kind
    assert seen == {"fact", "quotation", "speaker", "chapter", "definition", "key_value"}


def test_speakers_and_chapters_stand_before_the_quotation(world: SmallText) -> None:
    checked = 0
    for row in rows(world, 40):
        for (_, answer, start, _), kind in zip(row.span.tolist(), row.kinds, strict=True):
            if kind in ("speaker", "chapter"):
                ids = row.tokens[answer:].tolist()
                ids = ids[: ids.index(EOS)]
                before = row.tokens[:start].tolist()
                assert any(before[i : i + len(ids)] == ids for i in range(len(before)))
                checked += 1
    assert checked > 40


def test_tokens_are_those_of_the_whole_text(world: SmallText) -> None:
    for row in rows(world, 30):
        document, inside = [], False
        for token in row.tokens[1:].tolist():
            inside = inside or token == USER
            if not inside:
                document.append(token)
            inside = inside and token != EOS
        assert world.encode([world.source.vocabulary.text(np.array(document))])[0] == document


def test_rows_are_a_function_of_their_seed(world: SmallText) -> None:
    first, again = rows(world, 3), rows(world, 3)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.tokens, b.tokens)
        assert np.array_equal(a.weight, b.weight)
        assert np.array_equal(a.span, b.span)
    assert not np.array_equal(first[0].tokens, first[1].tokens)


def test_overfull_rows_keep_a_quarter_of_text(world: SmallText) -> None:
    for row in rows(world, 6, 512, Mix(tokens_per_question=12)):
        assert (row.weight[row.weight < 1] > 0).sum() > 0.15 * 512
        for question, answer, start, stop in row.span.tolist():
            assert start < stop <= question < answer


def test_short_rows_are_refused(world: SmallText) -> None:
    with pytest.raises(LimitError, match="row length 100 is under 256"):
        rows(world, 1, 100)
