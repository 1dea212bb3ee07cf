"""How the ranks of a run divide the work.

Covers: the four degrees, their limits, and the words of `--parallel`. Does not cover: process groups (`mesh`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig

CHUNK = 128  # a context is cut where no compressed entry of any kind is


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Degrees whose product is the number of ranks.

    dp: replicas of everything. fsdp: ranks that share the parameters and have rows of their own. cp: ranks that share a
    row, each a contiguous chunk of it. ep: ranks that share the routed experts and have rows of their own. All
    parameters but the experts are spread over fsdp x cp x ep ranks; an expert's over fsdp x cp of them.
    """

    dp: int = 1
    fsdp: int = 1
    cp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise UsageError(f"parallel {field.name} is {value}; it must be at least 1")

    @classmethod
    def parse(cls, text: str) -> Layout:
        """ "fsdp=2,ep=4" -> the layout; what is not named is 1. Raises UsageError naming the word at fault."""
        names = [field.name for field in fields(cls)]
        found: dict[str, int] = {}
        for word in text.split(","):
            name, _, value = (part.strip() for part in word.partition("="))
            if name not in names or name in found:
                why = "is there twice" if name in found else f"is not one of {', '.join(names)}"
                raise UsageError(f"parallel {text!r}: {name!r} {why}")
            if not value.isascii() or not value.isdigit():
                raise UsageError(f"parallel {name} is {value!r}; it must be a whole number")
            found[name] = int(value)
        return cls(**found)

    @property
    def ranks(self) -> int:
        """Processes that the layout needs."""
        return math.prod((self.dp, self.fsdp, self.cp, self.ep))

    @property
    def plain(self) -> bool:
        """Whether every rank holds everything."""
        return self.ranks == self.dp

    @property
    def shares(self) -> int:
        """Parts of a step's rows: those of one cp group compute the same rows."""
        return self.ranks // self.cp

    def check_ranks(self, count: int) -> None:
        """Raises UsageError unless the layout is one of `count` ranks."""
        if self.ranks != count:
            product = " x ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))
            raise UsageError(f"parallel: {product} are {self.ranks} ranks; {count} were started")

    def check(self, model: ModelConfig, row_lengths: Iterable[int]) -> None:
        """Raises UsageError when the layout does not suit the model or the rows."""
        if model.n_routed_experts % self.ep:
            raise UsageError(f"parallel ep is {self.ep}; it must divide n_routed_experts {model.n_routed_experts}")
        if self.cp == 1:
            return
        for length in row_lengths:
            if length % (self.cp * CHUNK):
                raise UsageError(
                    f"parallel cp is {self.cp}; rows of {length} tokens are no multiple of cp x {CHUNK} tokens"
                )
            if length // self.cp < model.sliding_window:
                raise UsageError(
                    f"parallel cp is {self.cp}; a chunk of {length // self.cp} tokens of a row of {length} is below "
                    f"sliding_window {model.sliding_window}"
                )
