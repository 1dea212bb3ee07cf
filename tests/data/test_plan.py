"""Plans of rows."""

from dataclasses import replace
from random import Random

import pytest

from octavo.data.ground import play, prose
from octavo.data.plan import Mix, Planner
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=120)


def test_shares_of_both_sorts_of_row_give_the_mix() -> None:
    mix = Mix()
    plays = mix.play_rows
    total = {
        kind: plays * mix.shares(is_play=True).get(kind, 0) + (1 - plays) * mix.shares(is_play=False).get(kind, 0)
        for kind in ("fact", "quotation", "speaker", "chapter", "definition", "key_value")
    }
    assert total == pytest.approx(
        {"fact": 0.36, "quotation": 0.24, "speaker": 0.25, "chapter": 0.03, "definition": 0.04, "key_value": 0.08}
    )


@pytest.mark.parametrize("is_play", [False, True])
def test_nothing_is_put_into_a_quoted_range(world: SmallText, is_play: bool) -> None:
    for seed in range(8):
        draw = Random(seed)
        ground = play(draw, world.source, world.encode, 1500) if is_play else prose(draw, world.source, 1500)
        plan = Planner(draw, ground, 1500, Mix()).make()
        ranges = [ask.source for ask in plan.asks if ask.source is not None]
        places = [insert.at for insert in plan.inserts] + [ask.at for ask in plan.asks]
        assert not [(r, at) for r in ranges for at in places if r[0] < at < r[1]]


def test_questions_come_after_their_source(world: SmallText) -> None:
    for seed in range(8):
        draw = Random(seed)
        plan = Planner(draw, prose(draw, world.source, 1500), 1500, Mix()).make()
        for ask in plan.asks:
            source = ask.source[1] if ask.source is not None else plan.inserts[ask.insert or 0].at
            assert ask.at >= source


def test_a_mix_of_one_kind_asks_nothing_else(world: SmallText) -> None:
    only = Mix(fact=1, quotation=0, speaker=0, chapter=0, definition=0, key_value=0)
    draw = Random(1)
    plan = Planner(draw, prose(draw, world.source, 2000), 2000, only).make()
    assert {ask.kind for ask in plan.asks} == {"fact"}


def test_bursts_stand_at_the_end(world: SmallText) -> None:
    draw = Random(4)
    ground = prose(draw, world.source, 2000)
    plan = Planner(draw, ground, 2000, Mix(burst=1.0)).make()
    assert sum(ask.at == len(ground.tokens) for ask in plan.asks) >= 8


LINKED = Mix(multi_key=0.15, multi_value=0.15, two_hop=0.15, two_hop_steps=0.15, ordering=0.1)


def test_a_tail_holds_all_questions_in_any_order(world: SmallText) -> None:
    places = []
    for seed in range(6):
        draw = Random(seed)
        ground = prose(draw, world.source, 2000)
        plan = Planner(draw, ground, 2000, replace(LINKED, tail=1.0)).make()
        assert len(plan.asks) > 4
        assert all(ask.at == len(ground.tokens) for ask in plan.asks)
        places.append([plan.inserts[ask.insert].at for ask in plan.asks if ask.insert is not None])
    assert all(row != sorted(row) for row in places if len(row) > 4)


def test_a_focus_is_of_one_kind_and_every_kind_has_its_turn(world: SmallText) -> None:
    chosen = set()
    for seed in range(40):
        draw = Random(seed)
        counts = Planner(draw, prose(draw, world.source, 3000), 3000, replace(LINKED, focus=1.0)).counts
        kind = max(counts, key=lambda name: counts[name])
        assert counts[kind] > 0.6 * sum(counts.values())
        chosen.add(kind)
    assert {"multi_key", "multi_value", "two_hop", "two_hop_steps"} <= chosen


def test_a_focus_on_order_has_things_to_name(world: SmallText) -> None:
    draw = Random(5)
    only = Mix(fact=0, quotation=0, chapter=0, definition=0, key_value=0, speaker=0, ordering=0.9, focus=1.0)
    plan = Planner(draw, prose(draw, world.source, 4000), 4000, only).make()
    named = [ask for ask in plan.asks if ask.kind == "ordering" and ask.answer_text is not None]
    assert len(named) > 3


def test_half_of_the_lines_of_a_focus_move_to_where_their_speech_begins(world: SmallText) -> None:
    first = {0.0: 0, 1.0: 0}
    total = {0.0: 0, 1.0: 0}
    for focus in first:
        for seed in range(12):
            draw = Random(seed)
            ground = play(draw, world.source, world.encode, 3000)
            plan = Planner(draw, ground, 3000, Mix(focus=focus)).make()
            lines = ground.lines
            begins = {line.start for i, line in enumerate(lines) if not i or lines[i - 1].speech != line.speech}
            asked = [ask.source[0] for ask in plan.asks if ask.kind == "speaker" and ask.source is not None]
            first[focus] += sum(at in begins for at in asked)
            total[focus] += len(asked)
    assert first[1.0] / total[1.0] > first[0.0] / total[0.0] + 0.1
