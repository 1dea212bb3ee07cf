"""Derived values of a configuration and the normal form of its schedule."""

from dataclasses import FrozenInstanceError
from typing import Any, cast

import pytest

from octavo.config.errors import ConfigError
from octavo.config.model import DraftKind, LayerKind, ModelConfig
from octavo.config.presets import flash, flash_0731, pro, s, xs


@pytest.mark.parametrize(
    ("config", "window", "csa", "hca", "drafts"),
    [
        (flash(), 2, 21, 20, 1),
        (flash_0731(), 2, 21, 20, 3),
        (pro(), 0, 30, 31, 1),
        (xs(), 1, 3, 2, 0),
        (s(), 2, 4, 2, 1),
    ],
)
def test_layer_kinds(config: ModelConfig, window: int, csa: int, hca: int, drafts: int) -> None:
    kinds = config.layer_kinds
    counted = [kinds.count(kind) for kind in (LayerKind.WINDOW, LayerKind.CSA, LayerKind.HCA)]
    assert counted == [window, csa, hca]
    assert config.draft_ratios == (0,) * drafts


def test_draft_kind_follows_the_dspark_fields() -> None:
    kinds = (flash().mtp_kind, flash_0731().mtp_kind, xs().mtp_kind)
    assert kinds == (DraftKind.MTP, DraftKind.DSPARK, DraftKind.NONE)


def test_missing_mtp_entries_are_filled_in() -> None:
    assert flash().changed(compress_ratios=flash().layer_ratios) == flash()


def test_lists_and_whole_numbers_are_normalised() -> None:
    listed: Any = list(xs().compress_ratios)
    config = xs().changed(compress_ratios=listed, rope_theta=10000, routed_scaling_factor=1)
    assert config == xs()
    assert hash(config) == hash(xs())
    assert isinstance(config.rope_theta, float)


def test_rotary_base_and_yarn_by_ratio() -> None:
    config = flash()
    assert [config.rope_base(ratio) for ratio in (0, 4, 128)] == [10000, 160000, 160000]
    assert config.rope_yarn(0) is None
    assert config.rope_yarn(4) is config.rope_yarn(128) is config.rope_scaling


def test_derived_widths() -> None:
    for config, heads in ((flash(), 8), (pro(), 8), (xs(), 2)):
        assert config.heads_per_group == heads
        assert config.group_width * config.o_groups == config.num_attention_heads * config.head_dim
    assert (flash().group_width, flash().nope_head_dim) == (4096, 448)
    assert xs().changed(n_shared_experts=2).shared_intermediate_size == 192


def test_layer_questions() -> None:
    config = xs()
    assert [config.is_hash_layer(layer) for layer in range(3)] == [True, False, False]
    assert [config.has_engram(layer) for layer in range(3)] == [False, True, False]
    assert not flash().has_engram(1)


def test_frozen_and_changed_by_name_only() -> None:
    with pytest.raises(FrozenInstanceError):
        cast(Any, xs()).vocab_size = 5
    with pytest.raises(ConfigError, match="unknown config fields: vocabulary"):
        xs().changed(vocabulary=5)


def test_a_copy_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="compress_ratios has 6 entries; num_hidden_layers 7 needs 7"):
        xs().changed(num_hidden_layers=7)
