"""Which replica knows what, and how busy each is.

Covers: remembering who was given what, counting requests under way, choosing between knowing and being free. Does not
cover: what requests are about (`keys`), which replicas there are (Ray Serve tells its `router`). Loads no Ray.

The front sees every request, so it needs no reports from replicas: whoever was last given a beginning holds it, and
whoever was lost is no longer among those to choose from.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence

from octavo.server.replicas.messages import Hint

MAX_KEYS = 200_000
"""Keys that are remembered: about 40 MB."""


class Directory:
    """The front's own knowledge; used on one thread. The keys used longest ago are forgotten first."""

    def __init__(self, *, slack: int, most: int = MAX_KEYS) -> None:
        """slack: a replica that knows a prompt is left alone once it has so many requests more than the least busy."""
        self._slack, self._most = slack, most
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._loads: Counter[str] = Counter()

    def hint(self, keys: Iterable[str], *, avoid: Collection[str] = ()) -> Hint:
        """Where a request with these keys (the strongest first) should go."""
        owners = (self._owners.get(key) for key in keys)
        owner = next((found for found in owners if found is not None and found not in avoid), None)
        return Hint(owner=owner, loads=dict(self._loads), slack=self._slack, avoid=frozenset(avoid))

    def learn(self, keys: Iterable[str], replica: str) -> None:
        """`replica` knows these from now on."""
        for key in keys:
            self._owners[key] = replica
            self._owners.move_to_end(key)
        while len(self._owners) > self._most:
            self._owners.popitem(last=False)

    def enter(self, replica: str) -> None:
        """A replica has one request more."""
        self._loads[replica] += 1

    def leave(self, replica: str) -> None:
        """A request of its is over."""
        self._loads[replica] -= 1
        if not self._loads[replica]:
            del self._loads[replica]

    @property
    def loads(self) -> dict[str, int]:
        """Requests under way, by replica; those without are left out."""
        return dict(self._loads)


def ranked(replicas: Sequence[str], hint: Hint, chance: random.Random) -> list[list[str]]:
    """`replicas` as groups, those to try first in front.

    First the one that knows the request, unless it is too busy; else the less busy of two that chance picks. The others
    follow, so that a request which one replica cannot take now waits for none.
    """
    there = [one for one in replicas if one not in hint.avoid] or list(replicas)
    if not there:
        return []
    load = {one: hint.loads.get(one, 0) for one in there}
    if hint.owner in load and load[hint.owner] < min(load.values()) + hint.slack:
        first = hint.owner
    else:
        first = min(chance.sample(there, min(2, len(there))), key=lambda one: load[one])
    others = [one for one in there if one != first]
    return [[first], others] if others else [[first]]
