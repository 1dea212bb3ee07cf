"""Kinds whose answer hangs on several statements: what a row says is what its answers say."""

from random import Random

import pytest

from octavo.data.ground import play, prose
from octavo.data.plan import Mix, Plan, Planner
from octavo.data.shares import LINKED
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=120)


def plans(world: SmallText, kind: str, count: int = 6, *, is_play: bool = False) -> list[Plan]:
    made = []
    for seed in range(count):
        draw = Random(seed)
        ground = play(draw, world.source, world.encode, 2000) if is_play else prose(draw, world.source, 2000)
        mix = Mix(quotation=0, chapter=0, definition=0, key_value=0, **{kind: 0.8})
        made.append(Planner(draw, ground, 2000, mix).make())
    return made


def said(plan: Plan, inserts: tuple[int, ...]) -> list[str]:
    """The texts of `inserts` in the row's order."""
    order = sorted(inserts, key=lambda i: (plan.inserts[i].at, i))
    return ["".join(plan.inserts[i].pieces).strip() for i in order]


@pytest.mark.parametrize("kind", LINKED)
@pytest.mark.parametrize("is_play", [False, True])
def test_every_kind_is_asked_after_all_it_stands_on(world: SmallText, kind: str, is_play: bool) -> None:
    asked = 0
    for plan in plans(world, kind, 3, is_play=is_play):
        for ask in plan.asks:
            assert all(plan.inserts[i].at <= ask.at for i in ask.needed)
            asked += ask.kind == kind
    assert asked > 8


def test_keys_of_a_family_differ_in_one_part(world: SmallText) -> None:
    for plan in plans(world, "multi_key"):
        asks = [ask for ask in plan.asks if ask.kind == "multi_key"]
        for ask in asks:
            assert ask.insert is not None
            assert not plan.inserts[ask.insert].kept[ask.answer]
        assert len({ask.insert for ask in asks}) == len(asks)


def test_values_are_listed_in_the_order_of_the_row(world: SmallText) -> None:
    for plan in plans(world, "multi_value"):
        for ask in plan.asks:
            if ask.kind == "multi_value":
                assert ask.answer_text is not None
                values = ask.answer_text.strip().split(", ")
                texts = said(plan, ask.needed)
                assert len(values) == len(texts)
                assert all(value in text for value, text in zip(values, texts, strict=True))


def test_two_hops_lead_over_what_the_first_statement_names(world: SmallText) -> None:
    for plan in plans(world, "two_hop_steps"):
        for ask in plan.asks:
            if ask.kind == "two_hop_steps":
                assert ask.answer_text is not None
                between, end = ask.answer_text.strip().split(", ", 1)
                first, second = (plan.inserts[i] for i in ask.needed)
                assert first.pieces[first.kept.index(False)].strip().lower() == between.lower()
                assert between.lower() in "".join(second.pieces).lower()
                assert end == second.pieces[second.kept.index(False)].strip()
                assert end.lower() not in ask.question.lower() or len(end) < 4


def test_counts_are_those_of_the_row(world: SmallText) -> None:
    found = set()
    for plan in plans(world, "counting"):
        for ask in plan.asks:
            if ask.kind == "counting":
                texts = [text.lower() for text in said(plan, ask.needed)]
                everything = "\n".join("".join(insert.pieces) for insert in plan.inserts).lower()
                shared = [name for name in _runs(texts[0]) if all(name in text for text in texts)]
                longest = max(shared, key=len)
                assert ask.answer_text == f" {len(texts)}"
                assert everything.count(longest) == len(texts) or len(texts) > 1
                found.add(len(texts))
    assert len(found) > 4
    assert max(found) <= 8


def _runs(text: str) -> list[str]:
    words = text.strip(".!?()").split()
    return [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]


def test_order_is_that_of_the_row(world: SmallText) -> None:
    named = quoted = 0
    for plan in plans(world, "ordering", 8):
        for ask in plan.asks:
            if ask.kind != "ordering":
                continue
            if ask.answer_range is not None:
                quoted += 1
                assert (plan.ground.text(*ask.answer_range) or "no text") in ask.question
            else:
                named += 1
                assert ask.answer_text is not None
                name = ask.answer_text.strip()
                texts = said(plan, ask.needed)
                assert name.lower() in (texts[0] + " " + texts[-1]).lower()
                assert name.lower() in ask.question.lower()
    assert named > 5
    assert quoted > 5
