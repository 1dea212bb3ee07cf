"""Ray and Ray Serve: starting them, the replicas, calling one, the end.

Covers: a Ray of this process's own on loopback, or one that is there; the deployment and its scaling; Ray's errors as
ours. Does not cover: what goes to which replica (`directory`, `router`), HTTP (`front`). Needs the extra `ray`.

A Ray of our own listens on loopback and asks for a token that only this process and its children know, since whoever
reaches a Ray may run programs in it. One port of each replica listens on every address all the same, which Ray Serve
has no setting for; it asks for the token too. Ray's reports of usage, its dashboard and Ray Serve's own HTTP are off.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import tempfile
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any

from octavo.config.errors import OctavoError
from octavo.server.launch import Launch
from octavo.server.replicas.messages import AnswerBroken, Asked, Part, ReplicaLost

NAME = "octavo"
OBJECT_BYTES = 80 * 2**20
"""Ray's shared memory: requests and answers pass through it only where they are large."""
PAGE_SECONDS = 5.0
SPARE_REQUESTS = 64
"""Requests that are no jobs, which a replica takes beyond those that it runs and that wait."""
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}


class Cluster:
    """The replicas of `launch`. Enter it to start them, which takes as long as loading the model and some 15 s."""

    def __init__(self, launch: Launch) -> None:
        self._launch, self._address = launch, launch.settings.ray_address
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._answers: Any = None
        self._handle: Any = None

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def ask(self, asked: Asked) -> AsyncGenerator[tuple[Part, ...], None]:
        """The parts of a replica's answer. ReplicaLost where it is gone, AnswerBroken for what is no fault of its being
        gone. Closing it gives the request up."""
        from ray.exceptions import RayActorError, RayError
        from ray.serve.exceptions import RayServeException, ReplicaUnavailableError

        response, is_over = self._answers.remote(asked), False
        try:
            async for parts in response:
                yield parts
            is_over = True
        except (RayActorError, ReplicaUnavailableError) as error:
            is_over = True
            raise ReplicaLost("the replica is gone") from error
        except (RayError, RayServeException) as error:
            is_over = True
            raise AnswerBroken(f"a replica failed: {str(error).splitlines()[-1]}") from error
        finally:
            if not is_over:
                response.cancel()

    def pages(self) -> dict[str, bytes]:
        """The metrics of every replica that answers within 5 s. Blocking."""
        try:
            found = self._handle.broadcast("page").results(timeout_s=PAGE_SECONDS, return_exceptions=True)
        except TimeoutError:
            return {}
        return dict(one for one in found if not isinstance(one, BaseException))

    def _start(self) -> None:
        os.environ.update(_environment(own=self._address is None))
        import ray
        from ray import serve

        logging.getLogger("ray").setLevel(logging.WARNING)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        settings, quiet = self._launch.settings, {"logging_level": "warning", "log_to_driver": True}
        if self._address is None:
            # Not below the folder of temporary files that a system gives: the names of Ray's sockets are long.
            self._folder = tempfile.TemporaryDirectory(prefix="octavo-ray-", ignore_cleanup_errors=True)
            ray.init(
                num_cpus=max(os.cpu_count() or 1, settings.replicas_max * self._launch.replica_cpus),
                include_dashboard=False, object_store_memory=OBJECT_BYTES, _temp_dir=self._folder.name,
                namespace=NAME, **quiet,
            )  # fmt: skip
        else:
            ray.init(address=self._address, namespace=NAME, **quiet)
        serve.start(proxy_location="Disabled", logging_config=_LOGGING)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            self._handle = serve.run(self._deployment(), name=NAME, route_prefix=None, logging_config=_LOGGING)
        except RuntimeError as error:
            raise OctavoError(f"the replicas do not start: {' '.join(str(error).split())[-400:]}") from error
        self._answers = self._handle.options(stream=True, method_name="answer")

    def _deployment(self) -> Any:
        from ray import serve
        from ray.serve.config import AutoscalingConfig, RequestRouterConfig

        from octavo.server.replicas.replica import Replica

        launch, settings = self._launch, self._launch.settings
        scaling = AutoscalingConfig(
            min_replicas=settings.replicas_min,
            max_replicas=settings.replicas_max,
            target_ongoing_requests=settings.replica_target,
            upscale_delay_s=settings.replica_grow_seconds,
            downscale_delay_s=settings.replica_shrink_seconds,
            look_back_period_s=min(30.0, max(1.0, settings.replica_grow_seconds)),
            metrics_interval_s=min(10.0, max(0.5, settings.replica_grow_seconds / 3)),
        )
        on_gpu = launch.device != "cpu"
        router: dict[str, Any] = {"request_router_class": "octavo.server.replicas.router:HintRouter"}
        made = serve.deployment(
            Replica,
            name=NAME,
            # A job more is refused by the replica itself, with 429; what is no job must never wait behind jobs.
            max_ongoing_requests=settings.max_running + settings.max_queue + SPARE_REQUESTS,
            autoscaling_config=scaling,
            ray_actor_options={"num_cpus": launch.replica_cpus, **({"num_gpus": 1} if on_gpu else {})},
            request_router_config=RequestRouterConfig(**router),
            graceful_shutdown_timeout_s=math.ceil(settings.drain_seconds) + 10,
            graceful_shutdown_wait_loop_s=1.0,
            health_check_period_s=2.0,
            logging_config=_LOGGING,
        )
        return made.bind(launch.for_replica())

    def _stop(self) -> None:
        """Everything of ours is gone. A Ray of our own ends whole, with what is left of its replicas."""
        import ray
        from ray import serve

        if self._address is not None and ray.is_initialized():
            serve.delete(NAME)
        ray.shutdown()
        if self._folder is not None:
            self._folder.cleanup()


def _environment(*, own: bool) -> dict[str, str]:
    """What Ray reads from the environment, before it is imported; processes that it starts inherit it."""
    found = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # A replica's answer to how busy it is; Ray's 0.1 s is soon over where a model holds all cores.
        "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",
    }
    if own:
        # The first is how Ray is told to stay on loopback, whatever the system; no other process is to join.
        found |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token",
                  "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # fmt: skip
    return found
