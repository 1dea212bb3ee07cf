"""Prime row counts against published sums, and the limits of every field."""

from typing import Any

import pytest

from octavo.config.engram import EngramConfig, EngramVariant, engram_from_dict
from octavo.config.errors import ConfigError


def make(**changed: Any) -> EngramConfig:
    fields: dict[str, Any] = {"layers": (1, 3), "rows_per_head": 97, "head_dim": 8}
    return EngramConfig(**(fields | changed))


def trial_division(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


@pytest.mark.parametrize(
    ("base", "orders", "layers", "first", "sums"),
    [
        (16_000_000, 4, (1, 14), (16000057, 16000079, 16000081), (384006168, 384016682)),
        (646_400, 3, (1, 15), (646403,), (10344164, 10348242)),
    ],
)
def test_table_sizes_equal_the_released_ones(
    base: int, orders: int, layers: tuple[int, int], first: tuple[int, ...], sums: tuple[int, int]
) -> None:
    engram = make(layers=layers, rows_per_head=base, max_ngram_size=orders, heads_per_order=8)
    assert engram.moduli(layers[0])[: len(first)] == first
    assert tuple(engram.table_rows(layer) for layer in layers) == sums


@pytest.mark.parametrize("base", [2, 3, 24, 97, 4093, 16381])
def test_moduli_are_the_next_primes_each_used_once(base: int) -> None:
    engram = make(rows_per_head=base)
    moduli = engram.moduli(1) + engram.moduli(3)
    span = range(base, moduli[-1] + 1)
    assert list(moduli) == [number for number in span if trial_division(number)]


def test_strong_pseudoprimes_are_not_taken_for_primes() -> None:
    # 25326001 = 2251 * 11251 passes the bases 2, 3, 5; only base 7 finds it out.
    assert make(rows_per_head=25326001).moduli(1)[0] != 25326001


def test_derived_sizes() -> None:
    engram = make(variant="v1", max_ngram_size=3, heads_per_order=4, head_dim=16)
    assert (engram.orders, engram.heads, engram.memory_dim, engram.conv_history) == (2, 8, 128, 9)
    assert engram.variant is EngramVariant.V1
    assert make().conv_history == 0


def test_a_layer_without_engram_has_no_moduli() -> None:
    with pytest.raises(ConfigError, match="layer 2 has no Engram"):
        make().moduli(2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("variant", "v2", "variant is 'v2'; it must be one of v1, v41"),
        ("layers", (), "layers is empty"),
        ("layers", (3, 1), "must ascend"),
        ("layers", (1, 1), "must ascend"),
        ("layers", (-1,), "layers is -1; it must be an integer from 0"),
        ("max_ngram_size", 1, "max_ngram_size is 1; it must be an integer from 2 to 8"),
        ("heads_per_order", 0, "heads_per_order is 0"),
        ("rows_per_head", 1, "rows_per_head is 1"),
        ("head_dim", 2.0, "head_dim is 2.0"),
        ("seed", True, "seed is True"),
        ("pad_id", -1, "pad_id is -1"),
        ("compressed_vocab_size", 0, "compressed_vocab_size is 0"),
    ],
)
def test_bad_fields_are_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**{field: value})


def test_round_trip() -> None:
    engram = make(compressed_vocab_size=77)
    assert engram_from_dict(engram.to_dict()) == engram


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": [1], "rows_per_head": 5, "head_dim": 4, "colour": 1}, "unknown engram fields: colour"),
        ({"layers": [1]}, "missing engram fields: rows_per_head, head_dim"),
        ({"layers": 1, "rows_per_head": 5, "head_dim": 4}, "layers is 1; it must be a list"),
        ([], "engram is"),
    ],
)
def test_bad_objects_are_named(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        engram_from_dict(values)
