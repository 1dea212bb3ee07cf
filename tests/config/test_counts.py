"""Parameter counts and checkpoint bytes against published figures, and the table against itself."""

from math import prod

import pytest

from octavo.config.counts import active_bytes, count, parameter_shapes, stored_tensors
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, flash_0731, pro, s, xs

WIDTHS = {"BF16": 2, "F32": 4, "I64": 8, "F8_E4M3": 1, "F8_E8M0": 1, "I8": 1}


@pytest.mark.parametrize(
    ("config", "main", "draft", "active", "stored"),
    [(flash(), 284.3e9, 6.6e9, 13.27e9, 159.61e9), (pro(), 1573.0e9, 25.8e9, 48.85e9, 864.7e9)],
)
def test_published_sizes(config: ModelConfig, main: float, draft: float, active: float, stored: float) -> None:
    counts = count(config)
    assert counts.main == pytest.approx(main, rel=1e-3)
    assert counts.draft == pytest.approx(draft, rel=2e-3)  # published with two digits
    assert counts.active == pytest.approx(active, rel=1e-3)
    assert counts.bytes == pytest.approx(stored, rel=1e-4)


def test_other_published_sizes() -> None:
    assert count(flash_0731()).main == count(flash()).main
    assert count(flash_0731()).bytes == pytest.approx(167e9, rel=1e-3)
    assert sum(active_bytes(flash()).values()) == pytest.approx(11.4e9, rel=0.02)
    assert sum(active_bytes(pro()).values()) == pytest.approx(40.0e9, rel=0.02)
    assert active_bytes(flash())["experts"] == pytest.approx(3.45e9, rel=1e-3)


@pytest.mark.parametrize("config", [flash(), flash_0731(), pro(), xs(), s()])
def test_parts_sum_up(config: ModelConfig) -> None:
    counts = count(config)
    assert sum(counts.by_part.values()) == counts.total == counts.main + counts.draft
    assert sum(counts.active_by_part.values()) == counts.active
    assert sum(counts.bytes_by_part.values()) == counts.bytes
    assert counts.active < counts.main


@pytest.mark.parametrize("config", [flash(), xs(), s()])
def test_the_table_gives_the_same_sums(config: ModelConfig) -> None:
    counts, shapes, stored = count(config), parameter_shapes(config), stored_tensors(config)
    assert sum(prod(shape) for name, shape in shapes.items() if not name.endswith("tid2eid")) == counts.total
    assert sum(WIDTHS[tag] * prod(shape) for tag, shape in stored.values()) == counts.bytes
    assert counts.table_bytes == sum(8 * prod(shape) for tag, shape in stored.values() if tag == "I64")


def test_flash_has_as_many_keys_as_its_index() -> None:
    stored = stored_tensors(flash())
    assert len(stored) == pytest.approx(69_000, rel=0.01)
    assert stored["layers.5.ffn.experts.255.w1.weight"] == ("I8", (2048, 2048))
    assert stored["layers.5.ffn.experts.255.w1.scale"] == ("F8_E8M0", (2048, 128))
    assert "layers.5.ffn.gate.scale" not in stored
    assert parameter_shapes(flash())["layers.5.ffn.experts.255.w1.weight"] == (2048, 4096)


def test_our_small_models() -> None:
    assert count(xs()).total == 9_521_993
    assert count(xs()).bytes <= 12 * 2**20
    assert count(s()).total == pytest.approx(62.5e6, rel=1e-3)


def test_an_unquantised_model_has_no_scales() -> None:
    config = xs().changed(quantization=None, expert_dtype=None)
    assert not [name for name in stored_tensors(config) if name.endswith(".scale")]
    assert count(config).total == count(xs()).total


def test_active_parameters_by_hand() -> None:
    counts = count(xs())
    inactive = 4096 * 256 + 6 * 6 * 3 * 96 * 256 + 527_744 - 128
    assert counts.active == counts.main - inactive
    tied = count(xs().changed(tie_word_embeddings=True))
    assert tied.active == counts.active
    assert tied.total == counts.total - 4096 * 256
