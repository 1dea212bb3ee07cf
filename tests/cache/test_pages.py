"""The allocator against a plain count of who holds what, and its limits."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from octavo.cache.pages import PageAllocator
from octavo.config.errors import LimitError


class Allocator(RuleBasedStateMachine):
    """Sequences are lists of pages; a page is free exactly when no list has it."""

    @initialize(count=st.integers(1, 12))
    def start(self, count: int) -> None:
        self.pages, self.lists = PageAllocator(), []
        self.own = set(self.pages.add(count))
        self.adopted: set[int] = set()

    @precondition(lambda self: self.pages.free > 0)
    @rule()
    def take(self) -> None:
        page = self.pages.take()
        assert page in self.own
        assert not any(page in held for held in self.lists)
        self.lists.append([page])

    @rule(count=st.integers(1, 3))
    def adopt(self, count: int) -> None:
        made = list(self.pages.add(count, adopted=True))
        self.adopted |= set(made)
        self.lists.append(made)

    @precondition(lambda self: self.lists)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        pages = data.draw(st.sampled_from(self.lists))
        self.pages.hold(pages)
        self.lists.append(list(pages))

    @precondition(lambda self: self.lists)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.pages.release(self.lists.pop(data.draw(st.integers(0, len(self.lists) - 1))))

    @invariant()
    def agrees(self) -> None:
        self.pages.check_integrity()
        held = [page for pages in self.lists for page in pages]
        assert self.pages.free == len(self.own - set(held))
        for page in self.own | self.adopted:
            assert self.pages.held(page) == (page in held)
            if page in held:
                assert self.pages.writable(page) == (page in self.own and held.count(page) == 1)


TestAllocator = Allocator.TestCase
TestAllocator.settings = settings(max_examples=40, stateful_step_count=25)


def test_taking_from_none_is_a_limit() -> None:
    pages = PageAllocator()
    pages.add(2)
    assert [pages.take(), pages.take()] == [0, 1]
    with pytest.raises(LimitError, match="all 2 pages are in use"):
        pages.take()


def test_released_pages_come_back_in_order() -> None:
    pages = PageAllocator()
    pages.add(4)
    taken = [pages.take() for _ in range(4)]
    pages.release(taken)
    assert [pages.take() for _ in range(4)] == taken


def test_adopted_pages_never_become_free() -> None:
    pages = PageAllocator()
    adopted = pages.add(3, adopted=True)
    pages.release(list(adopted))
    assert pages.free == 0
    assert not pages.held(adopted[0])


@pytest.mark.parametrize("fault", ["free twice", "free and held", "no holder"])
def test_integrity_check_sees_a_broken_table(fault: str) -> None:
    pages = PageAllocator()
    pages.add(2)
    page = pages.take()
    if fault == "free twice":
        pages._free.append(pages._free[0])
    elif fault == "free and held":
        pages._free.append(page)
    else:
        pages._holders[page] = 0
    with pytest.raises(AssertionError):
        pages.check_integrity()


def test_pages_that_nobody_else_holds() -> None:
    allocator = PageAllocator()
    allocator.add(4)
    taken = [allocator.take() for _ in range(4)]
    allocator.hold(taken[:2])
    [adopted] = allocator.add(1, adopted=True)
    assert allocator.alone({}) == 0
    assert allocator.alone(dict.fromkeys(taken, 1)) == 2
    assert allocator.alone(dict.fromkeys(taken, 2)) == 2
    assert allocator.alone({taken[0]: 2, taken[3]: 1, adopted: 1, 99: 1}) == 2
    allocator.release(taken[:1])
    assert allocator.alone({taken[0]: 1, taken[1]: 1}) == 1
