"""Batches: the same whatever the number of workers and the first step."""

from typing import Any

import numpy as np
import pytest

from octavo.config.errors import ConfigError
from octavo.data.loader import Batch, Loader, LoaderError, RowPlan
from octavo.data.rows import KINDS, Mix
from tests.support.small_text import SmallText, small_text

PLAN = [RowPlan(row_length=256), RowPlan(row_length=512, skips=1.0), RowPlan(row_length=256, mix=Mix(speaker=0.0))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=80)


def batches(world: SmallText, **options: Any) -> list[Batch]:
    with Loader(world.pack_folder, world.tokenizer_file, PLAN, 1024, seed=options.pop("seed", 3), **options) as loader:
        return list(loader)


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in ("tokens", "weight", "positions"))


def test_shapes_and_types(world: SmallText) -> None:
    first, second, _ = batches(world)
    assert first["tokens"].shape == first["weight"].shape == first["positions"].shape == (4, 256)
    assert second["tokens"].shape == (2, 512)
    assert [first[key].dtype for key in ("tokens", "weight", "positions")] == [np.uint16, np.float32, np.int32]
    assert (second["positions"][:, -1] > 511).all()


def test_workers_make_the_same_batches(world: SmallText) -> None:
    here, there = batches(world), batches(world, workers=2)
    assert len(here) == len(there) == 3
    assert all(same(a, b) for a, b in zip(here, there, strict=True))


def test_a_resumed_loader_goes_on_with_the_same_batches(world: SmallText) -> None:
    whole, rest = batches(world), batches(world, start=1)
    assert len(rest) == 2
    assert all(same(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_shares_are_parts_of_the_whole_batch(world: SmallText) -> None:
    whole = batches(world)
    for workers in (0, 1):
        parts = [batches(world, share=(i, 2), workers=workers) for i in range(2)]
        for step, batch in enumerate(whole):
            joined = {key: np.concatenate([part[step][key] for part in parts]) for key in batch}
            assert all(np.array_equal(joined[key], batch[key]) for key in ("tokens", "weight", "positions", "kind"))
    with pytest.raises(ConfigError, match="no multiple of row_length 512 x 4 ranks"):
        Loader(world.pack_folder, world.tokenizer_file, PLAN, 1024, seed=1, share=(0, 4))


def test_kinds_mark_answers_and_nothing_else(world: SmallText) -> None:
    made = batches(world)
    for batch in made:
        assert batch["kind"].dtype == np.uint8
        assert np.array_equal(batch["kind"] > 0, batch["weight"] >= 1.0)
        assert batch["kind"].max() <= len(KINDS)
    assert len(np.unique(np.concatenate([batch["kind"].flatten() for batch in made]))) > 2


def test_rows_of_text_alone_have_no_kind(world: SmallText) -> None:
    counting = Mix(counting=0.8, tokens_per_question=300)
    plan = [RowPlan(row_length=256, mix=Mix(plain=1.0)), RowPlan(row_length=1024, mix=counting)]
    with Loader(world.pack_folder, world.tokenizer_file, plan, 4096, seed=3) as loader:
        alone, counted = list(loader)
    assert not alone["kind"].any()
    assert alone["weight"].max() == 0.5
    assert 1 + KINDS.index("counting") in counted["kind"]


def test_seeds_and_steps_differ(world: SmallText) -> None:
    first, _, third = batches(world)
    assert not np.array_equal(first["tokens"], third["tokens"])
    assert not np.array_equal(first["tokens"], batches(world, seed=4)[0]["tokens"])


def test_rows_must_fill_a_step(world: SmallText) -> None:
    with pytest.raises(ConfigError, match="no multiple of row_length 300"):
        Loader(world.pack_folder, world.tokenizer_file, [RowPlan(row_length=300)], 1024, seed=1)


def test_a_failing_worker_is_an_error_here(world: SmallText) -> None:
    plan = [RowPlan(row_length=128)]
    loader = Loader(world.pack_folder, world.tokenizer_file, plan, 1024, seed=1, workers=1)
    with loader, pytest.raises(LoaderError, match="row length 128 is under 256"):
        next(iter(loader))


def test_a_killed_worker_is_an_error_here(world: SmallText) -> None:
    with Loader(world.pack_folder, world.tokenizer_file, PLAN, 1024, seed=1, workers=1) as loader:
        loader._processes[0].kill()
        with pytest.raises(LoaderError, match="exit code -9"):
            list(loader)


def test_documents_of_a_row_are_numbered_and_count_positions_from_0(world: SmallText) -> None:
    mix = Mix(plain=1.0, documents=1.0)
    plan = [RowPlan(row_length=16384, mix=mix, skips=1.0, dilute=1.0), RowPlan(row_length=256, mix=mix, dilute=1.0)]
    with Loader(world.pack_folder, world.tokenizer_file, plan, 65536, seed=3) as loader:
        made = list(loader)
    several, alone = made
    for batch in made:
        assert batch["document"].dtype == np.int32
        assert (batch["document"][:, 0] == 0).all()
    assert (several["document"].max(axis=1) > 0).all()  # documents are shorter than 16,384 tokens
    assert not several["dilution"].any()
    for tokens, document, positions in zip(several["tokens"], several["document"], several["positions"], strict=True):
        starts = np.flatnonzero(np.diff(document, prepend=-1))
        assert (tokens[starts] == 0).all()  # BOS
        assert (positions[starts] == 0).all()
        jumps = np.diff(positions)[np.diff(document) == 0]
        assert (jumps > 0).all()
        assert ((jumps - 1) % 128 == 0).all()
        assert (jumps > 1).any()
    assert not alone["document"].any()  # but longer than 256
    assert (alone["dilution"] > 0).all()


def test_documents_are_the_same_from_workers_and_after_a_break(world: SmallText) -> None:
    plan = [RowPlan(row_length=4096, mix=Mix(plain=1.0, documents=0.5))] * 3

    def run(**options: Any) -> list[Batch]:
        with Loader(world.pack_folder, world.tokenizer_file, plan, 32768, seed=3, **options) as loader:
            return list(loader)

    whole = run()
    for other, first in ((run(workers=2), 0), (run(start=2), 2)):
        for a, b in zip(whole[first:], other, strict=True):
            assert all(np.array_equal(a[key], b[key]) for key in ("tokens", "weight", "positions", "document"))
