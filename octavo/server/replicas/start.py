"""Replicas from start to end.

Covers: putting cluster, relay and front together. Does not cover: what each does. Needs the extra `ray`.
"""

from __future__ import annotations

import logging.config
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config.errors import DocumentError
from octavo.server.limits import RateLimits
from octavo.server.logs import log_settings
from octavo.server.replicas.cluster import Cluster
from octavo.server.replicas.directory import Directory
from octavo.server.replicas.front import create_front, serve_front
from octavo.server.replicas.gathered import GatheredMetrics
from octavo.server.replicas.heard import Heard
from octavo.server.replicas.relay import Relay

if TYPE_CHECKING:
    from octavo.server.launch import Launch


def serve_replicas(launch: Launch, listening: socket.socket, *, on_listening: Callable[[], None]) -> None:
    """Start the replicas of `launch` and serve until a signal says otherwise. DocumentError where the folder of
    documents cannot be used, OctavoError where the replicas do not start."""
    settings, folder = launch.settings, launch.settings.documents_folder
    assert folder is not None, "Launch.of asks for one"
    rates, heard = RateLimits(settings.requests_per_minute, settings.tokens_per_minute), Heard()
    stdout, stderr = sys.stdout, sys.stderr
    logging.config.dictConfig(log_settings(launch.log_level))  # which keeps the stderr of now

    def tell() -> None:
        with redirect_stdout(stdout):
            on_listening()

    with (
        _incoming(folder.absolute()) as incoming,
        redirect_stdout(heard),
        redirect_stderr(heard),
        Cluster(launch) as cluster,
    ):
        relay = Relay(
            cluster.ask, Directory(slack=settings.replica_target), incoming=Path(incoming), charge=rates.charge,
            log_to=stderr,
        )  # fmt: skip
        metrics = GatheredMetrics(launch.holding.model, cluster.pages, relay)
        app = create_front(relay, metrics, rates, settings)
        serve_front(app, relay, settings, listening, on_listening=tell)


def _incoming(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Where forms lie on their way to a replica: below the documents, which every replica can read."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise DocumentError(f"{folder}: cannot be used for documents: {error.strerror or error}") from None
