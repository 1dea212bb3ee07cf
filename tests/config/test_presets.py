"""Presets: the schedules of the releases and the sizes of our own models."""

import pytest

from octavo.config.counts import count
from octavo.config.errors import ConfigError
from octavo.config.presets import PRESETS, flash, preset, pro, s, xs, xs_engram, xs_plain


def test_released_schedules() -> None:
    assert len(flash().compress_ratios) == 44
    assert len(pro().compress_ratios) == 62
    assert [layer for layer, ratio in enumerate(flash().compress_ratios) if ratio == 0] == [0, 1, 43]
    assert [layer for layer, ratio in enumerate(flash().compress_ratios) if ratio == 4] == list(range(2, 43, 2))
    assert [layer for layer, ratio in enumerate(pro().compress_ratios) if ratio == 4] == list(range(2, 61, 2))
    assert pro().compress_ratios[:3] == (128, 128, 4)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_values(name: str) -> None:
    assert preset(name) == PRESETS[name]()
    assert hash(preset(name)) == hash(PRESETS[name]())


def test_other_spellings_of_names() -> None:
    assert preset("octavo-xs") == xs()
    assert preset("Flash-0731") == PRESETS["flash_0731"]()


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'huge'; known are flash, flash_0731, pro, xs, s"):
        preset("huge")


def test_our_models_share_the_special_tokens() -> None:
    for config in (xs(), s()):
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 1, 2)
        assert config.engram is not None
        assert config.engram.pad_id == config.pad_token_id
        assert config.rope_scaling is None


def test_twins_have_as_many_parameters() -> None:
    engram, plain = xs_engram(), xs_plain()
    ours, theirs = count(engram), count(plain)
    assert plain.engram is None
    assert plain.changed(engram=engram.engram, n_routed_experts=engram.n_routed_experts) == engram
    assert engram.layer_ratios == xs().layer_ratios
    assert (ours.total, theirs.total) == (14_474_153, 14_476_785)
    assert abs(ours.total / theirs.total - 1) < 0.01
    assert 0.2 < ours.by_part["engram tables"] / ours.total < 0.35
    assert (ours.active, theirs.active) == (6_340_169, 6_186_481)
