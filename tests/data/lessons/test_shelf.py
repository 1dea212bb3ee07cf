"""The shelf: all kinds by their share, rows with a span for each answer, packed rows with borders, the same by seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from octavo.config.errors import ConfigError
from octavo.data.loader import RowPlan, make_rows
from octavo.data.rows import KINDS, make_row
from octavo.data.shares import LESSON_KINDS, LESSON_SHARES, Mix
from tests.support.lesson_pack import lesson_pack
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def test_kinds_come_by_their_share(world: SmallText) -> None:
    shelf, draw = world.source.shelf(world.encode), Random(0)
    found = Counter(shelf.lesson(draw).kind for _ in range(1000))
    assert set(found) == set(LESSON_SHARES)
    assert abs(sum(LESSON_SHARES.values()) - 1) < 1e-9
    for kind, share in LESSON_SHARES.items():
        assert abs(found[kind] / 1000 - share) < 0.05


@pytest.mark.parametrize("kind", LESSON_SHARES)
def test_a_row_has_a_span_for_each_answer(world: SmallText, kind: str) -> None:
    shelf = world.source.shelf(world.encode)
    for seed in range(200):
        row = shelf.row(Random(seed), (kind,))
        begins = row.span[:, 1]
        assert len(row.kinds) == len(begins) >= 1
        assert (row.weight[begins] == 1.0).all()
        assert (row.weight[begins - 1] == 0.0).all()
        assert set(row.kinds) == {kind if kind in LESSON_KINDS else "lesson"} <= set(KINDS)
        runs = np.flatnonzero(np.diff(np.concatenate([[0], row.weight])) == 1)
        assert runs.tolist() == begins.tolist()


def test_rows_of_lessons_are_full_and_have_borders(world: SmallText) -> None:
    bos = world.tokenizer.special("BOS")
    row = make_row(np.random.default_rng(3), world.source, world.encode, 2048, Mix(lessons=1.0))
    assert len(row.tokens) == len(row.weight) == 2048
    assert len(row.starts) > 2
    assert (row.tokens[row.starts] == bos).all()
    assert (row.tokens == bos).sum() == len(row.starts)
    assert (row.weight[row.starts] == 0.0).all()
    ends = row.tokens[row.starts[1:] - 1]
    assert (ends == world.tokenizer.special("EOS")).all()


def test_batches_mark_lessons_and_are_the_same_by_seed(world: SmallText) -> None:
    plan = RowPlan(row_length=1024, mix=Mix(lessons=0.5))
    first, again = (make_rows(world.source, world.encode, plan, seed=1, step=4, first=0, count=8) for _ in range(2))
    assert all(np.array_equal(first[key], again[key]) for key in ("tokens", "weight", "positions", "kind", "document"))
    lessons = np.isin(first["kind"], [1 + KINDS.index(name) for name in LESSON_KINDS])
    rows = lessons.any(axis=1)
    assert 0 < rows.sum() < 8
    assert (first["weight"][rows][lessons[rows]] == 1.0).all()
    assert np.array_equal(first["kind"][rows] > 0, first["weight"][rows] >= 1.0)
    assert (first["document"][rows].max(axis=1) > 0).all()


def test_a_pack_without_the_material_is_refused(tmp_path: Path) -> None:
    bare = small_text(tmp_path, paragraphs=60)
    with pytest.raises(ConfigError, match="the pack has no source"):
        make_row(np.random.default_rng(0), bare.source, bare.encode, 512, Mix(lessons=1.0))
    without = lesson_pack(tmp_path / "more", programs=False)
    with pytest.raises(ConfigError, match=r"javascript.jsonl.xz is missing"):
        without.source.shelf(without.encode)


def test_rows_of_chosen_kinds_alone(world: SmallText) -> None:
    mix = Mix(lessons=1.0, lesson_kinds=("closed_book", "open_book"))
    rows = [make_row(np.random.default_rng(seed), world.source, world.encode, 1024, mix) for seed in range(6)]
    assert {kind for row in rows for kind in row.kinds} == {"closed_book", "open_book"}
