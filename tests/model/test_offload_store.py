"""The hot set and the reading ahead: what is kept, what is read, how much memory it takes, under threads too."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octavo.config.errors import CheckpointError, LimitError
from octavo.model.checkpoint import Shards, load_weights
from octavo.model.offload_experts import expert_parameters
from octavo.model.offload_store import W1, W2, W3, ExpertStore
from octavo.model.transformer import Transformer
from tests.support.checkpoints import official_tensors, stored_config, write_folder

ONE = 3 * (96 * 160 // 2 + 96 * 5)  # bytes of an expert of `stored_config`, FP4 with scales
PARTS = (W1, W3, W2)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., ExpertStore]:
    config = stored_config(n_routed_experts=8)
    folder = write_folder(tmp_path / "model", config, official_tensors(config, 1), shards=2)

    def made(budget: int, *, top: int = 1) -> ExpertStore:
        with torch.device("meta"):
            model = Transformer(config)
        report = load_weights(model, folder, torch.float32, stays=expert_parameters(model))
        layers = [
            tuple(report.left[f"layers.{layer}.ffn.experts.{part}"] for part in ("w1", "w3", "w2"))
            for layer in range(3)
        ]
        shards = Shards(sorted(folder.glob("*.safetensors")))
        return ExpertStore(layers, shards, budget_bytes=budget, top=top)

    return made


def use(store: ExpertStore, layer: int, *experts: int) -> None:
    """One token through a layer."""
    store.want(layer, dict.fromkeys(experts, 1), 1, by_matrix=False)
    for expert in experts:
        for part in PARTS:
            expected = store.values(layer, part, expert, 3)
            got = store.get(layer, part, expert)
            assert torch.equal(got.rows[3], expected.rows[0])
            assert got.scale is not None
            assert expected.scale is not None
            assert torch.equal(got.scale[3], expected.scale[0])


def settle(store: ExpertStore) -> None:
    """Wait until the readers have nothing to do."""
    store._threads.submit(lambda: None).result()
    while store._active:
        store._threads.submit(lambda: None).result()


def test_bytes_are_counted_and_a_second_use_is_a_hit(make: Callable[..., ExpertStore]) -> None:
    store = make(24 * ONE)
    assert store.total_bytes == 24 * ONE
    use(store, 0, 2, 5)
    assert (store.report.hits, store.report.misses, store.report.bytes_read) == (0, 6, 2 * ONE)
    use(store, 0, 5, 2)
    assert (store.report.hits, store.report.misses, store.report.bytes_read) == (6, 6, 2 * ONE)
    assert (store.report.tokens, store.report.hit_share, store.report.hot_bytes) == (2, 0.5, 2 * ONE)
    store.check_integrity()
    store.reset()
    assert (store.report.hits, store.report.bytes_read, store.report.hot_bytes) == (0, 0, 2 * ONE)
    use(store, 0, 2)
    assert store.report.hits == 3


def test_the_most_used_stay_and_a_pass_over_all_does_not_wash_them_out(make: Callable[..., ExpertStore]) -> None:
    store = make(4 * ONE)  # two for the hot set, two ahead
    assert (store.division.hot, store.division.reserve) == (2 * ONE, 2 * ONE)
    for _ in range(5):
        use(store, 1, 3)
        use(store, 1, 4)
    for layer in (0, 1, 2):
        use(store, layer, *range(8))
    store.reset()
    use(store, 1, 3, 4)
    assert (store.report.hits, store.report.misses) == (6, 0)
    for _ in range(40):  # now others are used more
        use(store, 2, 6)
        use(store, 2, 7)
    store.reset()
    use(store, 2, 6, 7)
    assert (store.report.hits, store.report.misses) == (6, 0)
    store.check_integrity()


def test_old_use_counts_less(make: Callable[..., ExpertStore]) -> None:
    store = make(24 * ONE)
    store.want(0, {1: 6}, 6, by_matrix=False)
    before = store._scores[0, 1]
    store.want(0, {2: 1024}, 1024, by_matrix=False)
    assert store._scores[0, 1] == pytest.approx(before / 2)
    assert store._scores[0, 2] == 1024


def test_a_right_guess_is_there_when_it_is_asked_for(make: Callable[..., ExpertStore]) -> None:
    store = make(12 * ONE)
    store.expect(1, [4], by_matrix=False)
    settle(store)
    assert store.report.bytes_read == ONE
    use(store, 1, 4)
    assert (store.report.misses, store.report.ahead, store.report.bytes_read) == (3, 3, ONE)
    assert (store.report.guessed, store.report.guessed_right, store.report.chosen) == (1, 1, 1)
    assert store.report.guess_share == 1.0
    store.check_integrity()


def test_a_wrong_guess_costs_its_bytes_alone(make: Callable[..., ExpertStore]) -> None:
    store = make(4 * ONE)
    for _ in range(3):
        use(store, 1, 0, 1)  # the hot set is full of better ones
    store.reset()
    store.expect(1, [4], by_matrix=False)
    settle(store)
    use(store, 1, 5)
    assert (store.report.bytes_read, store.report.bytes_wasted) == (2 * ONE, ONE)
    assert (store.report.guessed, store.report.guessed_right) == (1, 0)
    settle(store)
    store.check_integrity()


def test_reading_ahead_keeps_within_the_reserve(make: Callable[..., ExpertStore]) -> None:
    store = make(4 * ONE)
    store.want(0, dict.fromkeys(range(8), 1), 64, by_matrix=True)
    store.expect(1, range(8), by_matrix=True)
    settle(store)
    assert store._ahead_bytes <= store.division.reserve
    assert store._ahead_bytes > store.division.reserve - ONE
    for expert in range(8):
        store.get(0, W1, expert)
        store.get(0, W3, expert)
    for expert in range(8):
        store.get(0, W2, expert)
    settle(store)
    assert store._guess_bytes <= store.division.reserve // 2
    assert store.report.peak_bytes <= store.budget_bytes
    store.check_integrity()


def test_what_nobody_announced_is_read_all_the_same(make: Callable[..., ExpertStore]) -> None:
    store = make(2 * ONE)  # no hot set at all
    assert store.division.hot == 0
    got = store.get(2, W2, 7)
    assert torch.equal(got.rows, store.get(2, W2, 7).rows)
    assert (store.report.misses, store.report.hot_bytes) == (2, 0)


def test_too_small_a_budget_is_refused(make: Callable[..., ExpertStore]) -> None:
    with pytest.raises(LimitError, match=rf"offload_experts is {4 * ONE - 1:,} bytes; it must be at least {4 * ONE:,}"):
        make(4 * ONE - 1, top=2)


def test_a_reader_that_fails_is_heard_of_by_whoever_asks(make: Callable[..., ExpertStore]) -> None:
    store = make(12 * ONE)
    matrix = store.matrices[0]
    for path in matrix.entry.path.parent.glob("*.safetensors"):
        path.unlink()
    store.want(0, {0: 1}, 1, by_matrix=False)
    settle(store)
    for _ in range(2):  # read by a thread, then by the caller itself
        with pytest.raises(CheckpointError, match=rf"tensor '{matrix.entry.name}': cannot read .*safetensors"):
            store.get(0, W1, 0)
    settle(store)
    store.check_integrity()


def test_threads_in_different_layers_get_what_they_ask_for(make: Callable[..., ExpertStore]) -> None:
    store, failed = make(6 * ONE), []

    def layer_of(number: int) -> None:
        draw = random.Random(number)
        try:
            for _ in range(60):
                if draw.random() < 0.5:
                    store.expect(draw.randrange(3), draw.sample(range(8), 2), by_matrix=draw.random() < 0.5)
                use(store, draw.randrange(3), *draw.sample(range(8), draw.randint(1, 3)))
        except BaseException as error:  # told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=layer_of, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert not any(thread.is_alive() for thread in threads)
    settle(store)
    store.check_integrity()
