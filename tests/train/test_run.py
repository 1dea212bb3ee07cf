"""From a recipe's name to a run: data and vocabulary map reach the loop, a second call goes on, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.config.errors import UsageError
from octavo.text.compress_map import compress_map
from octavo.train import recipes
from octavo.train.loop import RunOptions
from octavo.train.recipes import Recipe
from octavo.train.run import run, with_vocabulary
from octavo.train.schedule import Schedule, Stage
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
