"""Where two levels begin, and of which configurations they are."""

from __future__ import annotations

import pytest

from octavo.config.levels import INDEX_FIELDS, Levels
from octavo.config.model import ModelConfig
from octavo.config.presets import xs


@pytest.mark.parametrize(
    "levels",
    [Levels(4, 9), Levels(4, 8), Levels(4, 1024, after=262144), Levels(16, 5, after=320), Levels(32, 10), Levels(8, 1)],
)
def test_two_levels_are_chosen_in_from_their_beginning_on(levels: Levels) -> None:
    choosing = [end for end in range(levels.begin + 100) if levels.choose(end)]
    assert choosing == list(range(levels.begin, levels.begin + 100))


def test_blocks_are_known_up_to_a_border() -> None:
    assert [Levels(4, 1).known(end) for end in (15, 16, 31, 32)] == [0, 4, 4, 8]
    assert [Levels(32, 1).known(end) for end in (31, 32, 95)] == [0, 1, 2]
    assert (Levels(4, 1).border, Levels(64, 1).border) == (16, 64)


def test_a_configuration_has_levels_where_there_are_two() -> None:
    assert xs().levels is None
    config = xs().changed(index_levels=2, index_block_tokens=8, index_blocks=5, index_from_tokens=160)
    assert config.levels == Levels(8, 5, 160)
    assert set(INDEX_FIELDS) <= set(ModelConfig.__dataclass_fields__)
