"""Many queries of one sequence: every body gives the reference's result, and the same bits on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagedRows, PagePool
from octavo.kernels import native
from octavo.kernels.dispatch import Body, use
from octavo.kernels.rows import DenseRows, Rows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.kernels.sparse_attention import many, sparse_attention
from tests.support.bodies import BODIES, COMPILED, needs_compiled, take
from tests.support.tiny import tiny_config

RATIO, SCALE = 4, 0.3


@pytest.fixture(params=BODIES, autouse=True)
def body(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    take(request.param, monkeypatch)
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


class World:
    """Queries of S tokens from token `first` on, their window, and entries."""

    def __init__(self, S: int, entries: int, *, H: int = 3, K: int = 32, window: int = 9, first: int = 0) -> None:
        generator = torch.Generator().manual_seed(S + entries + H)
        shapes = (1, S, H, K), (1, min(first, window - 1) + S, K), (H,), (1, entries, K)
        self.q, self.near, self.sink, entries_ = (torch.randn(shape, generator=generator) for shape in shapes)
        self.rows: Rows = DenseRows(entries_)
        self.options = {"first": first, "window": window, "scale": SCALE}
        self._draw = generator

    def picks(self, k: int, *, some: float = 0.7) -> Picked:
        """k distinct entries a query, of which the part `some` is listed and the rest is -1."""
        shape = (1, self.q.shape[1], self.rows.length)
        index = torch.rand(shape, generator=self._draw).argsort(-1)[..., :k]
        return Picked(index.masked_fill(torch.rand(index.shape, generator=self._draw) >= some, -1))

    @torch.no_grad()
    def attend(self, selection: Selection | None) -> Tensor:
        o, mass = sparse_attention(
            self.q, self.near, self.sink, rows=self.rows if selection else None, selection=selection, **self.options
        )
        assert mass is None
        return o

    def check(self, selection: Selection | None, *, atol: float = 2e-6) -> None:
        with use(Body.REFERENCE):
            wanted = self.attend(selection)
        torch.testing.assert_close(self.attend(selection), wanted, rtol=1e-5, atol=atol)


@needs_compiled
def test_the_library_serves_where_it_is_there(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], many.attend
    monkeypatch.setattr(many, "attend", lambda *args, **options: (calls.append(0), real(*args, **options))[1])
    world = World(40, 30)
    for selection in (None, Causal(RATIO), world.picks(5)):
        world.attend(selection)
    assert len(calls) == (0 if body == "numba" else 3)
    World(40, 30, K=24).attend(Causal(RATIO))
    assert len(calls) == (0 if body == "numba" else 3)
    assert not many.fits(world.q, world.sink, 1)
    assert not many.fits(world.q, world.sink.double(), 0)


@pytest.mark.parametrize("H", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("K", [16, 48, 128, 208])
def test_heads_and_widths(H: int, K: int) -> None:
    world = World(70, 100, H=H, K=K, first=300)
    world.options["scale"] = K**-0.5
    for selection in (None, Causal(RATIO), world.picks(13)):
        world.check(selection)


@pytest.mark.parametrize("S", [16, 17, 33, 200])
@pytest.mark.parametrize("first", [0, 3, 33, 2_000])
@pytest.mark.parametrize("offset", [None, torch.tensor([1.5])])
def test_all_entries_up_to_any_border(S: int, first: int, offset: Tensor | None) -> None:
    """From queries that see no entry, through passes of entries, to those that see the last one and no more."""
    World(S, (first + S) // RATIO + 1, first=first).check(Causal(RATIO, offset))
    World(S, max((first + S) // RATIO - 5, 1), first=first).check(Causal(RATIO, offset))


@pytest.mark.parametrize("window", [1, 2, 16, 128, 300])
@pytest.mark.parametrize("first", [0, 5, 700])
def test_windows(window: int, first: int) -> None:
    for H in (1, 8):
        world = World(150, 40, H=H, window=window, first=first)
        world.check(None)
        world.check(Causal(RATIO))


@pytest.mark.parametrize("k", [1, 3, 32, 33, 100])
@pytest.mark.parametrize("some", [0.0, 0.1, 1.0])
def test_lists_of_any_length(k: int, some: float) -> None:
    world = World(60, 100, first=400)
    chosen = world.picks(k, some=some)
    chosen.index[:, 7] = -1
    world.check(chosen)
    world.check(Picked(chosen.index[:, :, :0]))


def test_rows_older_than_the_window_change_nothing() -> None:
    world = World(40, 30, first=300)
    plain = world.attend(Causal(RATIO))
    world.near = torch.cat((torch.full((1, 5, 32), torch.nan), world.near), dim=1)
    assert torch.equal(world.attend(Causal(RATIO)), plain)


def test_sinks_of_any_size() -> None:
    world = World(50, 60, H=4, first=300)
    world.sink = torch.tensor([-torch.inf, -1e4, 60.0, 1e4])
    for selection in (None, Causal(RATIO), world.picks(9)):
        world.check(selection)
        assert world.attend(selection)[:, :, 3].abs().max() < 1e-30


def test_the_highest_logit_comes_late_and_large_logits_stay_finite() -> None:
    """What was summed before an entry that outweighs all shrinks to nothing."""
    world = World(64, 420, first=1_700)
    entries = world.rows.tile(0, 420)
    entries[0, 300], entries[0, 411] = world.q[0, 20, 1] * 10, world.q[0, 40, 0] * 15
    for selection in (Causal(RATIO), world.picks(200, some=1.0)):
        world.check(selection, atol=2e-4)
    world.q *= 1e4
    for selection in (None, Causal(RATIO), world.picks(200)):
        assert torch.isfinite(world.attend(selection)).all()


def test_nan_reaches_those_who_list_it_alone() -> None:
    world = World(40, 30, H=5, first=200)
    world.rows.tile(0, 30)[0, 7] = torch.nan
    index = torch.arange(6).expand(1, 40, 6).clone()
    index[0, 11, 2] = 7
    o = world.attend(Picked(index))
    assert o[0, 11].isnan().all()
    assert torch.isfinite(torch.cat((o[0, :11], o[0, 12:]))).all()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("H", [3, 8])
def test_bits_do_not_depend_on_threads(H: int, body: str) -> None:
    world = World(203, 500, H=H, window=20, first=1_900)
    for selection in (None, Causal(RATIO), world.picks(40)):
        torch.set_num_threads(1)
        alone = world.attend(selection)
        for count in (2, 3, 5):
            torch.set_num_threads(count)
            again = world.attend(selection)
            if body == "numba":  # torch's products may differ by the number of threads
                torch.testing.assert_close(again, alone, rtol=1e-5, atol=2e-6)
            else:
                assert torch.equal(again, alone)


@needs_compiled
def test_a_query_has_its_bits_in_any_company(body: str) -> None:
    if body == "numba":
        pytest.skip("torch's products differ by the number of queries")
    world = World(100, 300, H=8, window=20, first=1_000)
    chosen = world.picks(40)
    for selection in (None, Causal(RATIO), chosen):
        whole = world.attend(selection)
        part = World(100, 300, H=8, window=20, first=1_000)
        part.q, part.near, part.options = world.q[:, 37:60], world.near[:, 37 : 19 + 60], dict(world.options)
        part.options["first"] = 1_037
        some = Picked(chosen.index[:, 37:60]) if isinstance(selection, Picked) else selection
        assert torch.equal(part.attend(some), whole[:, 37:60])


@pytest.mark.parametrize("format", ["fp32", "bf16", "stretches"])
def test_entries_wherever_they_lie(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pages far apart, read where they lie; or not as FP32, and converted, some queries' at a time."""
    monkeypatch.setattr(many, "_GATHERED", 32)
    world = World(70, 150, H=2, first=530)
    selections = Causal(RATIO), world.picks(9)
    plain = [world.attend(selection) for selection in selections]
    values = world.rows.tile(0, 150)
    if format == "stretches":
        pool = PagePool(CacheLayout(tiny_config()), capacity_tokens=256)
        runs = pool.runs([pool.take() for _ in range(5)][::2])
        pool.write(runs, (1, "main"), 0, values[0])
        world.rows = PagedRows(pool, runs, (1, "main"), 150)
    elif format == "bf16":
        world.rows = DenseRows(values.bfloat16())
        plain = [_of(world, DenseRows(values.bfloat16().float()), selection) for selection in selections]
    for selection, wanted in zip(selections, plain, strict=True):
        assert torch.equal(world.attend(selection), wanted)


def _of(world: World, rows: Rows, selection: Selection) -> Tensor:
    held, world.rows = world.rows, rows
    found, world.rows = world.attend(selection), held
    return found


def test_levels_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    if len(COMPILED) < 2:
        pytest.skip("this processor has one level")
    world = World(90, 260, H=8, K=64, first=900)
    for selection in (None, Causal(RATIO), world.picks(50)):
        found = []
        for level in COMPILED:
            monkeypatch.setattr(native, "library", lambda which=native.STEP, level=level: native.load(level, which))
            found.append(world.attend(selection))
        torch.testing.assert_close(*found, rtol=1e-5, atol=2e-6)
