"""Lists of keys and values."""

from random import Random

from octavo.data.tasks.keyvalue import Ledger


def test_keys_differ_over_all_blocks() -> None:
    ledger = Ledger(Random(1), lambda: "harbour")
    keys = [entry.key.lower() for _ in range(12) for entry in ledger.block(15).entries]
    assert len(set(keys)) == len(keys) > 100


def test_keys_of_a_block_are_nearly_alike() -> None:
    near = 0
    for seed in range(40):
        entries = Ledger(Random(seed), lambda: "harbour").block(12).entries
        starts = [entry.key[:2] for entry in entries]
        near += len(set(starts)) < len(starts)
    assert near > 30


def test_question_names_the_key() -> None:
    draw = Random(2)
    for entry in Ledger(draw, lambda: "harbour").block(20).entries:
        assert entry.key.lower() in entry.question(draw).lower()
        assert entry.key in entry.question(draw, held_out=True)
        assert entry.answer.strip()
        assert entry.answer.startswith(" ") or entry.joint[-1] in "=\t"
