"""A replica: what Ray Serve starts, asks and stops.

Covers: loading the model in the replica's process, answering, health. Does not cover: the application (`served`), how
many there are (`cluster`). Needs the extra `ray`.
"""

from __future__ import annotations

import asyncio
import logging.config
from collections.abc import AsyncGenerator

from ray import serve

from octavo.server.launch import Launch
from octavo.server.logs import ACCESS, log_settings
from octavo.server.replicas.messages import Asked, Part
from octavo.server.replicas.served import Served


class Replica:
    """The whole application over a model of its own, in a process of its own."""

    async def __init__(self, launch: Launch) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        context = serve.get_replica_context()
        service = await asyncio.to_thread(launch.service, context.rank.rank)
        self._served = Served(service, launch.settings, id=context.replica_tag)
        logging.config.dictConfig(log_settings(launch.log_level))
        logging.getLogger("octavo").handlers = [self._served.lines]
        logging.getLogger(ACCESS).setLevel(logging.CRITICAL)  # the front has a line for each request
        await self._served.start()

    async def answer(self, asked: Asked) -> AsyncGenerator[tuple[Part, ...], None]:
        """See `Served.answer`."""
        answering = self._served.answer(asked)
        try:
            async for parts in answering:
                yield parts
        finally:
            await answering.aclose()

    def page(self) -> tuple[str, bytes]:
        """The replica's id and the body of its /metrics."""
        return self._served.id, self._served.page()

    async def __del__(self) -> None:  # type: ignore[misc]  # Ray Serve awaits it once no request is left
        await self._served.close()
