"""A sequence of the first rank, whose twins on the other ranks follow what is done to it.

Covers: `SpreadState`. Does not cover: its growth, which is part of a step (`runner`).

Pages and rows that come from files are read here alone. They are handed on before the first step that may need them, so
a document that is opened and not asked costs the others nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from octavo.cache.pool import LoadRows, PagePool, Slab
from octavo.cache.state import Replay, SequenceState
from octavo.cache.tails import LayerTail
from octavo.engine.spread.orders import Order

if TYPE_CHECKING:
    from octavo.engine.spread.crew import Crew


@dataclass(slots=True)
class Adopted:
    """Read-only pages by the number that the ranks know their rows by; `sent`: all have them."""

    number: int
    slab: Slab
    sent: bool = False


class SpreadState(SequenceState):
    """As `SequenceState`; `number` is that of its twins."""

    def __init__(
        self, pool: PagePool, tails: tuple[LayerTail, ...], crew: Crew, *, replay: Replay | None,
        adopted: tuple[Adopted, ...] = (), known: bool = False,
    ) -> None:  # fmt: skip
        """`known`: the other ranks are told of it by the caller."""
        super().__init__(pool, tails, replay=replay)
        self._crew, self.number, self._adopted = crew, crew.number(), adopted
        if not known:
            crew.tell(Order.NEW, self.number)

    def hand_on(self) -> None:
        """Give the other ranks the rows of adopted pages that they do not have; within `Crew.run`'s `before`."""
        for adopted in self._adopted:
            if not adopted.sent:
                rows = {key: adopted.slab.rows(key).cpu().numpy() for key in self.pool.specs}
                self._crew.send_rows(adopted.number, rows)
                adopted.sent = True

    def fork(self) -> SequenceState:
        """As `SequenceState.fork`."""
        twin = super().fork()
        assert isinstance(twin, SpreadState)
        self._crew.tell(Order.FORK, self.number, twin.number)
        return twin

    def _like(self, tails: tuple[LayerTail, ...]) -> SequenceState:
        return SpreadState(self.pool, tails, self._crew, replay=self._replay, adopted=self._adopted, known=True)

    def rollback(self, n: int) -> None:
        """As `SequenceState.rollback`; tokens that must be read again are read by all ranks."""
        if not 0 < n <= self.length:
            super().rollback(n)
            return
        own = super().rollback
        self._crew.run(lambda: own(n), Order.ROLLBACK, self.number, n, before=self.hand_on)

    def adopt_pages(self, load: LoadRows, count: int) -> None:
        """As `SequenceState.adopt_pages`."""
        super().adopt_pages(load, count)
        if count:
            adopted = Adopted(self._crew.number(), self.pool.locate(self.pages[-1])[0])
            self._adopted = (*self._adopted, adopted)
            self._crew.tell(Order.ADOPT, self.number, adopted.number, count)

    def load_snapshot(self, named: dict[str, Tensor], ids: np.ndarray) -> None:
        """As `SequenceState.load_snapshot`."""
        super().load_snapshot(named, ids)
        self._crew.tell(Order.SNAPSHOT, self.number, {name: tail.cpu() for name, tail in named.items()}, np.array(ids))

    def close(self) -> None:
        """As `SequenceState.close`."""
        if not self._closed:
            super().close()
            self._adopted = ()
            self._crew.tell(Order.CLOSE, self.number)

    def check_integrity(self) -> None:
        """As `SequenceState.check_integrity`, and all ranks hold the same, bit by bit."""
        super().check_integrity()
        from octavo.engine.spread.rank import digest

        held = self._crew.digests(self.number, lambda: digest(self), before=self.hand_on)
        wrong = [rank for rank, each in enumerate(held) if each != held[0]]
        assert not wrong, f"ranks {wrong} hold another sequence than rank 0"
