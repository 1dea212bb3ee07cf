"""Rotary fields in every spelling."""

from typing import Any

import pytest

from octavo.config.errors import ConfigError
from octavo.config.model import YarnConfig
from octavo.config.rope_fields import read_yarn, write_yarn

YARN = {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536, "beta_fast": 32, "beta_slow": 1}


def read(values: dict[str, Any], *, short: bool = False) -> dict[str, Any]:
    rest, fields = dict(values), {}
    read_yarn(rest, fields, short=short)
    return rest | fields


def nested(**compress: Any) -> dict[str, Any]:
    return {"rope_parameters": {"main": {"rope_theta": 1e4}, "compress": {"rope_theta": 2e5} | compress}}


def test_official_spelling_and_back() -> None:
    assert read({"rope_scaling": YARN}) == {"rope_scaling": YarnConfig()}
    assert write_yarn(YarnConfig()) == YARN
    assert write_yarn(None) is None


@pytest.mark.parametrize("scaling", [None, {"rope_type": "default"}, {"type": "default"}])
def test_no_scaling(scaling: Any) -> None:
    assert read({"rope_scaling": scaling}) == {"rope_scaling": None}


def test_nested_values_win_over_flat_ones() -> None:
    found = read(nested(**YARN) | {"rope_theta": 5.0, "compress_rope_theta": 6.0})
    assert found == {"rope_theta": 1e4, "compress_rope_theta": 2e5, "rope_scaling": YarnConfig()}
    assert read(nested(rope_type="default"))["rope_scaling"] is None


def test_short_names() -> None:
    short = {"rope_factor": 8, "original_seq_len": 1024}
    expected = YarnConfig(factor=8.0, original_max_position_embeddings=1024)
    assert read(short, short=True) == {"rope_scaling": expected}
    assert read(short | {"original_seq_len": 0}, short=True) == {"rope_scaling": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn'; it must be an object or null"),
        ({"rope_scaling": YARN | {"type": "linear"}}, "rope_scaling has type linear; only yarn is supported"),
        ({"rope_scaling": YARN | {"rope_type": "linear"}}, "rope_scaling has type linear, yarn"),
        ({"rope_scaling": {"factor": 2}}, "rope_scaling has type default"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "missing rope_scaling fields: original_max"),
        ({"rope_scaling": YARN | {"spice": 1}}, "unknown rope_scaling fields: spice"),
        ({"rope_scaling": YARN | {"attention_factor": 1.27}}, "attention_factor is 1.27; only 1.0 is supported"),
        ({"rope_parameters": {"main": {}}}, "it must hold exactly main and compress"),
        ({"rope_parameters": {"main": {}, "compress": {}}}, "rope_parameters.main has no rope_theta"),
        ({"rope_parameters": {"main": YARN | {"rope_theta": 1.0}, "compress": {"rope_theta": 1.0}}}, "main has YaRN"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(values)


def test_short_files_must_say_their_scaling() -> None:
    with pytest.raises(ConfigError, match="missing config fields: rope_factor, original_seq_len"):
        read({}, short=True)
