"""Prompts: the same by seed and step, other ones for the look, no family or wording that tests keep, known answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from octavo.config.errors import ConfigError
from octavo.data.tasks.javascript.judge import passed, program
from octavo.data.tasks.javascript.task import FAMILIES, build
from octavo.sandbox import Sandbox
from octavo.text.special import Special
from octavo.train.reinforce.prompts import DEV_SEEDS, FIRST_SEED, Asked, MixedPrompts, by_kind
from tests.support.lesson_pack import lesson_pack
from tests.support.small_text import SmallText

ASKED = Asked(program=0.4, recall=0.3, row=0.3, row_length=256)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def prompts(world: SmallText, sandbox: Sandbox, asked: Asked = ASKED, seed: int = 1) -> MixedPrompts:
    return MixedPrompts(world.pack_folder, world.tokenizer_file, asked, seed=seed, sandbox=sandbox)


def test_a_step_is_the_same_at_every_call_and_unlike_others(world: SmallText, sandbox: Sandbox) -> None:
    made = prompts(world, sandbox)
    first, again = made.step(3, 6), prompts(world, sandbox).step(3, 6)
    assert first == again
    assert not {one.ids for one in first} & {one.ids for one in made.step(4, 6)}
    assert first != prompts(world, sandbox, seed=2).step(3, 6)


def test_the_look_has_prompts_of_its_own(world: SmallText, sandbox: Sandbox) -> None:
    made = prompts(world, sandbox)
    dev = made.dev(9)
    assert dev == made.dev(9)
    assert [one.kind for one in dev] == ["program", "recall", "row"] * 3
    trained = [one for step in range(4) for one in made.step(step, 6)]
    assert {one.kind for one in trained} == {"program", "recall", "row"}
    assert not {one.id for one in dev} & {one.id for one in trained}
    assert not {one.ids for one in dev} & {one.ids for one in trained}
    assert all(int(one.id.split("/")[-1]) >= DEV_SEEDS for one in dev)
    assert all(FIRST_SEED <= int(one.id.split("/")[-1]) < DEV_SEEDS for one in trained)


def test_families_of_tests_never_come_up(world: SmallText, sandbox: Sandbox) -> None:
    kept = {family.name for family in FAMILIES if family.held_out}
    made = prompts(world, sandbox, Asked(program=1.0))
    seeds = [int(one.id.split("/")[1]) for one in [*made.step(0, 12), *made.dev(12)]]
    assert kept
    assert not kept & {build(seed, sandbox).family for seed in seeds}


def test_a_program_is_asked_for_and_its_reference_passes(world: SmallText, sandbox: Sandbox) -> None:
    for one in prompts(world, sandbox, Asked(program=1.0)).step(0, 4):
        task = build(int(one.id.split("/")[1]), sandbox)
        text = world.tokenizer.decode(one.ids)
        assert text.startswith(f"{Special.BOS}{Special.USER}")
        assert text.endswith(f"{Special.ASSISTANT}{Special.END_THINK}")
        assert task.signature.removeprefix("function ").split("(")[0] in text
        assert task.source.strip() not in text
        assert all(call not in text for call, _ in one.tests)
        assert passed(sandbox.run(program(task.source, [call for call, _ in one.tests])), one.tests)


@pytest.mark.parametrize("kind", ["recall", "row"])
def test_answers_stand_in_what_was_read(world: SmallText, sandbox: Sandbox, kind: str) -> None:
    asked = Asked(**{kind: 1.0}, row_length=256)  # pyright: ignore
    for one in prompts(world, sandbox, asked).step(0, 12):
        text = world.tokenizer.decode(one.ids)
        assert text.endswith(f"{Special.ASSISTANT}{Special.END_THINK}")
        assert one.expected.strip().lower() in text.lower()
        assert one.expected.strip()
        assert not one.tests
        assert Special.EOS not in one.expected


def test_what_is_out_of_range(world: SmallText, sandbox: Sandbox) -> None:
    for wrong in ({}, {"program": -0.5, "recall": 1.0}):
        with pytest.raises(ConfigError, match="shares of prompts are"):
            Asked(**wrong)
    with pytest.raises(ConfigError, match="beyond the 80000000 steps that have seeds"):
        prompts(world, sandbox).step(80_000_000, 10)


def test_values_by_kind(world: SmallText, sandbox: Sandbox) -> None:
    dev = prompts(world, sandbox).dev(4)
    assert by_kind(dev, [1.0, 2.0, 3.0, 4.0]) == {"program": [1.0, 4.0], "recall": [2.0], "row": [3.0]}
