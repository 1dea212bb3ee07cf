"""From a recipe's name to a run: data and vocabulary map reach the loop, a second call goes on, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.config.errors import UsageError
from octavo.data.shares import Mix
from octavo.text.compress_map import compress_map
from octavo.train import recipes
from octavo.train.loop import RunOptions
from octavo.train.recipes import Recipe
from octavo.train.run import run, with_vocabulary
from octavo.train.schedule import Schedule, Stage
from octavo.train.step import train_step
from tests.support.small_text import SmallText, small_text
from tests.support.training import small_config, small_recipe


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=200)


@pytest.fixture
def chosen(text: SmallText, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A known recipe of six steps whose model has the small tokenizer's ids."""
    stages = (
        Stage(name="dense", steps=3, row_lengths=(256,)),
        Stage(name="sparse", steps=3, row_lengths=(256,), topk=(8,), skips=0.5),
    )
    config = small_config(vocab_size=text.tokenizer.vocab_size)
    made = small_recipe(model=config, schedule=Schedule(stages=stages), tokens_per_step=512, recompute_from=512)
    monkeypatch.setitem(recipes.RECIPES, "small", lambda: made)
    return made


def test_two_legs_equal_one_run(chosen: Recipe, text: SmallText, tmp_path: Path) -> None:
    paths = {"pack": text.pack_folder, "tokenizer": text.tokenizer_file.parent}
    whole = run("small", options=RunOptions(out=tmp_path / "a"), **paths)
    first = run("small", options=RunOptions(out=tmp_path / "b", max_seconds=0.0), **paths)
    assert (first.steps, first.finished) == (1, False)
    second = run("small", options=RunOptions(out=tmp_path / "b"), **paths)
    assert (whole.steps, second.steps, second.finished) == (6, 6, True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert np.isfinite(whole.last["loss"])


def test_engram_gets_the_tokenizers_map(chosen: Recipe, text: SmallText) -> None:
    made, small = with_vocabulary(chosen, text.tokenizer_file.parent)
    expected, size = compress_map(text.tokenizer)
    assert small is not None
    assert np.array_equal(small, expected)
    assert made.model.engram is not None
    assert made.model.engram.compressed_vocab_size == size < text.tokenizer.vocab_size


def test_without_engram_nothing_is_changed(chosen: Recipe, text: SmallText) -> None:
    plain = replace(chosen, model=chosen.model.changed(engram=None))
    assert with_vocabulary(plain, text.tokenizer_file.parent) == (plain, None)


def test_a_tokenizer_of_another_size_is_refused(text: SmallText) -> None:
    with pytest.raises(UsageError, match=r"tokenizer .* has \d+ ids, recipe 'small' needs 32"):
        with_vocabulary(small_recipe(), text.tokenizer_file.parent)


def with_documents(chosen: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recipe's rows be documents."""
    stage = Stage(name="packed", steps=2, row_lengths=(1024,), topk=(8,), skips=0.5, mix=Mix(plain=1.0, documents=1.0))
    made = replace(chosen, schedule=Schedule(stages=(stage,)), tokens_per_step=2048, recompute_from=512)
    monkeypatch.setitem(recipes.RECIPES, "small", lambda: made)


def test_rows_of_several_documents_are_trained_on(
    chosen: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pack whose documents are shorter than a row."""
    text = small_text(tmp_path / "text", paragraphs=8)
    assert int(np.diff(text.source._ranges[None][2], prepend=0).max()) < 1000
    with_documents(chosen, monkeypatch)
    seen: list[torch.Tensor | None] = []

    def spy(*given: Any, **options: Any) -> Any:
        seen.extend(batch.document for batch in given[2])
        return train_step(*given, **options)

    monkeypatch.setattr("octavo.train.loop.train_step", spy)
    paths = {"pack": text.pack_folder, "tokenizer": text.tokenizer_file.parent}
    result = run("small", options=RunOptions(out=tmp_path), **paths)
    assert result.finished
    assert np.isfinite(result.last["loss"])
    assert len(seen) == 2
    assert all(document is not None and document.max() > 0 for document in seen)


def test_such_rows_are_not_cut_into_chunks(
    chosen: Recipe, text: SmallText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_documents(chosen, monkeypatch)
    paths = {"pack": text.pack_folder, "tokenizer": text.tokenizer_file.parent}
    message = "parallel cp is 2; stage 'packed' has rows of several documents, which need 1"
    with pytest.raises(UsageError, match=message):
        run("small", options=RunOptions(out=tmp_path), parallel="cp=2", **paths)
