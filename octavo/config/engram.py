"""Engram's configuration and the sizes of its hash tables.

Covers: fields, their limits, and the prime number of rows of every hash head. Not here: the hash itself, the
multipliers, the tokenizer compression, the lookup.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from octavo.config.errors import ConfigError


class EngramVariant(StrEnum):
    """V1 = the paper's module with a short convolution; V41 = without it."""

    V1 = "v1"
    V41 = "v41"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngramConfig:
    """N-gram memory read before the attention of a few layers (arXiv 2601.07372).

    `rows_per_head` is the base b: every head gets its own prime above b - 1. `pad_id` is a token id of the
    uncompressed vocabulary. `compressed_vocab_size` is None until a tokenizer has been compressed; a checkpoint
    carries the number, since it bounds the hash multipliers. `conv_kernel` is used by variant v1 only.
    """

    variant: EngramVariant = EngramVariant.V41
    layers: tuple[int, ...]
    max_ngram_size: int = 3
    heads_per_order: int = 4
    rows_per_head: int
    head_dim: int
    conv_kernel: int = 4
    seed: int = 0
    compressed_vocab_size: int | None = None
    pad_id: int = 2

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "variant", EngramVariant(self.variant))
        except ValueError:
            raise ConfigError(f"engram.variant is {self.variant!r}; it must be one of v1, v41") from None
        object.__setattr__(self, "layers", tuple(self.layers))
        limits: tuple[tuple[str, int, int], ...] = (
            ("max_ngram_size", 2, 8),
            ("heads_per_order", 1, 64),
            ("rows_per_head", 2, 2**31 - 1),
            ("head_dim", 1, 65536),
            ("conv_kernel", 1, 64),
            ("seed", 0, 2**63 - 1),
            ("pad_id", 0, 2**31 - 1),
        )
        for name, low, high in limits:
            _check_int(name, getattr(self, name), low, high)
        if self.compressed_vocab_size is not None:
            _check_int("compressed_vocab_size", self.compressed_vocab_size, 1, 2**31 - 1)
        if not self.layers:
            raise ConfigError("engram.layers is empty; leave engram out to switch it off")
        for layer in self.layers:
            _check_int("layers", layer, 0, 2**31 - 1)
        if list(self.layers) != sorted(set(self.layers)):
            raise ConfigError(f"engram.layers is {list(self.layers)}; layer ids must ascend without repeats")

    @property
    def orders(self) -> int:
        """Number of n-gram orders: 2 .. max_ngram_size."""
        return self.max_ngram_size - 1

    @property
    def heads(self) -> int:
        """Hash heads of one layer, over all orders."""
        return self.orders * self.heads_per_order

    @property
    def memory_dim(self) -> int:
        """Width of the memory vector that one position reads in one layer."""
        return self.heads * self.head_dim

    @property
    def has_conv(self) -> bool:
        """Whether the short convolution of variant v1 is there."""
        return self.variant is EngramVariant.V1

    @property
    def conv_history(self) -> int:
        """Earlier positions that the convolution reaches back to: (kernel - 1) * dilation, dilation = max order."""
        return (self.conv_kernel - 1) * self.max_ngram_size if self.has_conv else 0

    def moduli(self, layer: int) -> tuple[int, ...]:
        """Rows of each hash head of `layer`, order by order and head by head within an order: [heads] primes.

        Primes strictly above rows_per_head - 1, ascending, no prime used twice in the model; handed out by layer id,
        then order, then head.
        """
        if layer not in self.layers:
            raise ConfigError(f"layer {layer} has no Engram; engram.layers is {list(self.layers)}")
        start = self.layers.index(layer) * self.heads
        return _primes_from(self.rows_per_head, len(self.layers) * self.heads)[start : start + self.heads]

    def table_rows(self, layer: int) -> int:
        """Rows of the flat table of `layer`: the sum of its moduli."""
        return sum(self.moduli(layer))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"variant": self.variant.value, "layers": list(self.layers)}


def engram_from_dict(values: dict[str, Any]) -> EngramConfig:
    """Read the nested `engram` object of a config file; unknown or missing keys raise ConfigError by name."""
    if not isinstance(values, dict):
        raise ConfigError(f"engram is {values!r}; it must be an object")
    unknown = sorted(set(values) - set(EngramConfig.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"unknown engram fields: {', '.join(unknown)}")
    missing = [name for name in ("layers", "rows_per_head", "head_dim") if name not in values]
    if missing:
        raise ConfigError(f"missing engram fields: {', '.join(missing)}")
    if not isinstance(values["layers"], (list, tuple)):
        raise ConfigError(f"engram.layers is {values['layers']!r}; it must be a list of layer ids")
    return EngramConfig(**values)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"engram.{name} is {value!r}; it must be an integer from {low} to {high}")


@lru_cache(maxsize=64)
def _primes_from(start: int, count: int) -> tuple[int, ...]:
    """The first `count` primes that are at least `start`."""
    found: list[int] = []
    for number in _odd_candidates(start):
        if _is_prime(number):
            found.append(number)
            if len(found) == count:
                break
    return tuple(found)


def _odd_candidates(start: int) -> Iterator[int]:
    if start <= 2:
        yield 2
    number = max(3, start | 1)
    while True:
        yield number
        number += 2


def _is_prime(number: int) -> bool:
    """Miller-Rabin with the bases 2, 3, 5, 7, which decide every number below 3.2e9 (Jaeschke 1993)."""
    bases = (2, 3, 5, 7)
    for base in bases:
        if number % base == 0:
            return number == base
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    odd = (number - 1) >> twos
    return all(_passes_round(number=number, base=base, odd=odd, twos=twos) for base in bases)


def _passes_round(*, number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
