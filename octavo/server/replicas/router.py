"""Ray Serve's choice of a replica, made by the front's hint.

Covers: the router that Ray Serve asks for every request. Does not cover: the choice itself (`directory.ranked`), which
replicas there are, whether one has room, sending: Ray Serve's own. Needs the extra `ray`.
"""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from octavo.server.replicas.directory import ranked
from octavo.server.replicas.messages import Asked, Hint


class HintRouter(RequestRouter):
    """Follows the hint of a request's `Asked`."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Ray Serve's place for a router's own state; called once."""
        self._chance = random.Random()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Groups of replicas, those to try first in front."""
        given = pending_request.args[0] if pending_request is not None and pending_request.args else None
        hint = given.hint if isinstance(given, Asked) else Hint()
        known = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        return [[known[id] for id in group] for group in ranked(list(known), hint, self._chance)]
