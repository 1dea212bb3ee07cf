"""A layer's compiled parts for many tokens against the model's single operations; a token's bits in any company."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import chunk, dispatch, hyper, native
from octavo.kernels.engram_lookup import gate
from tests.support.bodies import COMPILED, take
from tests.support.parts import CONFIGS as SHARED
from tests.support.parts import World, equal_parts, on_any_threads
from tests.support.tiny import tiny_config

LEVELS = [level for level in COMPILED if native.load(level, native.CHUNK) is not None]
if not LEVELS:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

CONFIGS = SHARED | {"one stream": tiny_config(hc_mult=1)}
MANY = 291  # two whole tiles and panels that are full, half full and nearly empty


@pytest.fixture(params=LEVELS, autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


@pytest.mark.parametrize("number", [0, 1, 2])  # window and hashed experts; CSA; HCA
@pytest.mark.parametrize("T", [9, 47])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_parts_are_as_by_single_operations(config: str, T: int, number: int) -> None:
    equal_parts(World(chunk, CONFIGS[config], number, T), number)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_bits_do_not_depend_on_company_or_threads(config: str, number: int) -> None:
    world = World(chunk, CONFIGS[config], number, MANY)
    together = on_any_threads(world)
    for some in (slice(0, 9), slice(5, 140), slice(100, MANY), slice(MANY - 1, MANY)):
        for name, value in world.parts(some).items():
            assert torch.equal(value, together[name][some]), name


@torch.no_grad()
def test_a_write_is_that_behind_the_experts() -> None:
    world = World(chunk, CONFIGS["tiny"], 1, 50)
    y, made, given = torch.randn(50, 32), world.parts(), world.streams.clone()
    post, comb = made["links"][:, :4], made["links"][:, 4:].view(50, 4, 4)
    with dispatch.use(dispatch.Body.REFERENCE):
        wanted = hyper.write(world.streams, y, post, comb)
    found = chunk.write(given, y, made["links"])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert found is given


@torch.no_grad()
def test_a_nan_stays_with_its_token() -> None:
    world = World(chunk, CONFIGS["tiny"], 1, 40)
    before = world.parts()
    world.streams[7, 2, 5] = torch.nan
    for name, value in world.parts().items():
        assert torch.equal(value[:7], before[name][:7]), name
        assert torch.equal(value[8:], before[name][8:]), name
    assert world.parts()["out"][7].isnan().all()


@pytest.mark.parametrize(("M", "D", "W"), [(4, 32, 16), (3, 44, 21)])
@torch.no_grad()
def test_what_engram_recalls(M: int, D: int, W: int) -> None:
    torch.manual_seed(D)
    streams, memory, weight = torch.randn(150, M, D), torch.randn(150, W), torch.randn((M + 1) * D, W)
    q_gain, k_gain = torch.randn(2, M, D)
    found, both = chunk.recall(streams, memory, weight, q_gain, k_gain, 1e-6), memory @ weight.T
    with dispatch.use(dispatch.Body.REFERENCE):
        g = gate(streams, both[:, : M * D].view(-1, M, D), q_gain, k_gain, 1e-6)
    torch.testing.assert_close(found, streams + g.unsqueeze(-1) * both[:, None, M * D :], rtol=1e-4, atol=1e-4)
    for some in (slice(3, 20), slice(149, 150)):
        alone = chunk.recall(streams[some], memory[some], weight, q_gain, k_gain, 1e-6)
        assert torch.equal(alone, found[some])


@pytest.mark.parametrize(("N", "O"), [(32, 48), (21, 7)])
@torch.no_grad()
def test_a_product(N: int, O: int) -> None:
    x, weight = torch.randn(N, 150).T, torch.randn(O, N)
    found = chunk.products.linear(x, weight)
    torch.testing.assert_close(found, x @ weight.T, rtol=1e-5, atol=1e-5)
    assert torch.equal(chunk.products.linear(x[40:60], weight), found[40:60])
    assert chunk.products.serves(x, weight)
    assert not chunk.products.serves(x, weight.double())
    assert not chunk.products.serves(x, weight.T)
    assert not chunk.products.serves(x[:8], weight)


@torch.no_grad()
def test_single_operations_have_the_bits_of_the_part() -> None:
    world = World(chunk, CONFIGS["wide"], 1, 150)
    ffn, parts = world.block.ffn, world.parts()
    y = ffn._routed(parts["x"], ffn.gate(parts["x"], world.tokens))
    assert torch.equal(chunk.write(parts["after"], y, parts["following"]), parts["out"])


def test_where_the_parts_run(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = torch.zeros(9, 4, 32)
    assert not chunk.serves(streams)  # gradients are on
    with torch.no_grad():
        assert chunk.serves(streams)
        assert not chunk.serves(streams[:8])
        assert not chunk.serves(streams.double())
        assert not chunk.serves(torch.zeros(9, chunk.STREAMS + 1, 32))
        with dispatch.use(dispatch.Body.REFERENCE):
            assert not chunk.serves(streams)
        take("numba", monkeypatch)
        assert not chunk.serves(streams)
