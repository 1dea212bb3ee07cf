"""Batches of a run by step, in order, read ahead, and again from an earlier step.

Covers: keeping what was read ahead, going back, moving a batch to the device in parts. Does not cover: what is in a
batch (`octavo.data.loader`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch

from octavo.train.step import Batch

Arrays = dict[str, np.ndarray]
Feed = Callable[[int], Iterator[Arrays]]  # called with a step: batches of that step, the next one, ...


class Batches:
    """Batches of `feed` from `step` on."""

    def __init__(self, feed: Feed, step: int) -> None:
        self._feed = feed
        self._open(step)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def at(self, step: int) -> Arrays:
        """The batch of `step`, which is neither before the first one nor one that `drop` let go."""
        while self._next <= step:
            self._held[self._next] = next(self._from)
            self._next += 1
        return self._held[step]

    def drop(self, step: int) -> None:
        """Let batches before `step` go."""
        self._held = {at: batch for at, batch in self._held.items() if at >= step}

    def back_to(self, step: int) -> None:
        """Begin again at `step`: the same batches, since each is a function of its step."""
        self.close()
        self._open(step)

    def close(self) -> None:
        """End the feed, and with it processes that it may have started."""
        if isinstance(self._from, Generator):
            self._from.close()

    def _open(self, step: int) -> None:
        self._from, self._next = self._feed(step), step
        self._held: dict[int, Arrays] = {}


def to_device(batch: Arrays, device: torch.device, parts: int) -> list[Batch]:
    """The rows of `batch` on `device` in at most `parts` parts of about as many rows. A part without borders between
    documents is trained on as if there were none anywhere."""
    rows = batch["tokens"].shape[0]
    parts = min(parts, rows)
    cuts = [rows * i // parts for i in range(parts + 1)]
    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in batch.items() if k != "spans"}
    tokens, positions = tensors["tokens"].to(device, torch.int64), tensors["positions"].to(device, torch.int64)
    weight = tensors["weight"].to(device, torch.float32)
    kind = tensors["kind"].to(device) if "kind" in tensors else torch.zeros_like(tokens, dtype=torch.uint8)
    dilution = tensors["dilution"].to(device) if "dilution" in tensors else None
    document = batch.get("document")
    return [
        Batch(
            tokens=tokens[a:b],
            weight=weight[a:b],
            positions=positions[a:b],
            kind=kind[a:b],
            dilution=None if dilution is None else dilution[a:b],
            document=None if document is None else _documents(document[a:b], device),
        )
        for a, b in itertools.pairwise(cuts)
    ]


def _documents(document: np.ndarray, device: torch.device) -> torch.Tensor | None:
    """The number of every token's document [B, S] on the device, None where each row is one document."""
    if (document == document[:, :1]).all():
        return None
    return torch.from_numpy(np.ascontiguousarray(document)).to(device)
