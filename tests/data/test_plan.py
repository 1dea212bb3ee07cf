"""Plans of rows."""

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
