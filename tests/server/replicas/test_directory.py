"""Between knowing a prompt and being free."""

from __future__ import annotations

import random

from octavo.server.replicas.directory import Directory, ranked
from octavo.server.replicas.messages import Hint


def chosen(replicas: str, hint: Hint, times: int = 200) -> set[str]:
    """Which replicas may come first."""
    return {ranked(list(replicas), hint, random.Random(seed))[0][0] for seed in range(times)}


def test_the_owner_of_the_strongest_key_comes_first() -> None:
    directory = Directory(slack=2)
    directory.learn(("short",), "a")
    directory.learn(("long", "short"), "b")
    assert directory.hint(("long", "short")).owner == "b"
    assert directory.hint(("longer", "short")).owner == "b"  # whoever was given it last
    assert directory.hint(("none",)).owner is None
    assert chosen("abc", directory.hint(("long",))) == {"b"}


def test_an_owner_that_is_too_busy_is_left_alone() -> None:
    directory = Directory(slack=2)
    directory.learn(("key",), "a")
    directory.enter("a")
    assert chosen("abc", directory.hint(("key",))) == {"a"}
    directory.enter("a")
    assert chosen("abc", directory.hint(("key",))) == {"b", "c"}
    directory.enter("b")
    directory.enter("c")
    assert chosen("abc", directory.hint(("key",))) == {"a"}  # all are busy
    for one in "aabc":
        directory.leave(one)
    assert directory.loads == {}


def test_without_an_owner_the_less_busy_of_two() -> None:
    assert chosen("abc", Hint()) == {"a", "b", "c"}
    assert chosen("abc", Hint(loads={"a": 1})) == {"b", "c"}
    assert chosen("ab", Hint(loads={"a": 1, "b": 3})) == {"a"}


def test_every_replica_is_ranked_but_those_that_were_lost() -> None:
    hint = Hint(owner="a", avoid=frozenset("a"))
    groups = ranked(list("abc"), hint, random.Random(1))
    assert sorted(one for group in groups for one in group) == ["b", "c"]
    assert ranked(["a"], hint, random.Random(1)) == [["a"]]  # better than none
    assert ranked([], hint, random.Random(1)) == []
    assert Directory(slack=1).hint((), avoid={"a"}).avoid == {"a"}


def test_an_owner_that_was_lost_is_passed_over() -> None:
    directory = Directory(slack=1)
    directory.learn(("short",), "b")
    directory.learn(("long",), "a")
    assert directory.hint(("long", "short"), avoid={"a"}).owner == "b"


def test_the_keys_used_longest_ago_are_forgotten() -> None:
    directory = Directory(slack=1, most=2)
    directory.learn(("one", "two"), "a")
    directory.learn(("one",), "a")
    directory.learn(("three",), "b")
    assert [directory.hint((key,)).owner for key in ("one", "two", "three")] == ["a", None, "b"]
