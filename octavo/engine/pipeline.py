"""Reading a long text on several cores: chunks follow each other through the layers, each on a thread of its own.

Covers: `read_in_pipeline`. A chunk may enter a layer as soon as the one before has left it, so two threads are busy all
the time, each with whole operations; operations shared out among cores instead wait for each other hundreds of times a
chunk (measured: 1.3 times one core's speed on two cores). Commits stay in order: stopped at any moment, the state is
valid at the end of the last whole chunk. Does not cover: what a chunk is (`runner`), GPUs.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from octavo.cache.ahead import RowsAhead
from octavo.cache.state import SequenceState
from octavo.cache.view import Controls, Group, View
from octavo.model.transformer import Transformer

_RECENT = 256  # token ids before a chunk that its layers may ask for


def read_in_pipeline(
    model: Transformer, state: SequenceState, parts: Sequence[np.ndarray], *, controls: Controls | None = None,
    after: Callable[[SequenceState], None] | None = None, workers: int | None = None,
) -> None:  # fmt: skip
    """Read the chunks `parts` one after the other; `after` gets the state after each, on the caller's thread.

    While it runs, torch shares its operations out among threads / workers threads only, in the whole process, for a
    single chunk too: how products are shared out shows in their last bits. `workers`: how many chunks run at a time,
    None: one for each of torch's threads. What a chunk or `after` raises is raised
    here, once no chunk runs any more.
    """
    workers = max(1, min(torch.get_num_threads() if workers is None else workers, len(model.layers) // 2))
    recent = state.tokens[-_RECENT:]
    every, first, end = np.concatenate([recent, *parts]), state.length, len(recent)
    going: deque[tuple[RowsAhead, np.ndarray, Future[None]]] = deque()
    with _sharing(workers), ThreadPoolExecutor(workers, thread_name_prefix="octavo-read") as threads:
        try:
            for part in parts:
                if len(going) > workers:  # one waits its turn, so that no thread waits for a commit
                    _commit(going, state, after)
                state.reserve(len(part), ahead=first - state.length)
                end += len(part)
                before = going[-1][0] if going else None
                rows = RowsAhead(state, len(part), first=first, before=before, ids=every[:end])
                run = contextvars.copy_context().run
                going.append((rows, part, threads.submit(run, _pass, model, rows, part, first, controls)))
                first += len(part)
            while going:
                _commit(going, state, after)
        finally:
            for rows, *_ in going:
                rows.stop()


def _commit(
    going: deque[tuple[RowsAhead, np.ndarray, Future[None]]], state: SequenceState,
    after: Callable[[SequenceState], None] | None,
) -> None:
    """Wait for the oldest chunk and take it over."""
    rows, part, future = going[0]
    future.result()
    going.popleft()
    rows.commit(part)
    if after is not None:
        after(state)


@torch.inference_mode()
def _pass(model: Transformer, rows: RowsAhead, part: np.ndarray, first: int, controls: Controls | None) -> None:
    """One chunk through all layers."""
    try:
        tokens = torch.from_numpy(np.asarray(part, dtype=np.int64))
        group = Group(start=0, rows=1, length=len(part), first=first, past=rows)
        positions = torch.arange(first, first + len(part))
        model(tokens, View(positions=positions, groups=(group,), controls=controls or Controls()))
        rows.finish()
    except BaseException:  # also when the step before it was: whoever waits for this one hears of it
        rows.stop()
        raise


@contextlib.contextmanager
def _sharing(workers: int) -> Iterator[None]:
    """Torch's threads divided among the workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
