"""Writers that are killed: `python -m tests.support.kill_writer FOLDER TRIALS TOKENS SEED`.

Each trial forks a process that writes a document of random rows to FOLDER/N.octavo, and kills it (SIGKILL) once the
file has reached a size drawn at random. Nothing but the files is left; the caller looks at them.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from octavo.cache.document import DocumentWriter
from tests.support.documents import empty_state, fake_ids, header, read_on, sources_of


def write_forever(path: Path, tokens: int) -> None:
    """Write a whole document and wait for the end."""
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(tokens), ids=fake_ids(tokens))
        state = empty_state()
        read_on(writer, state, tokens)
        writer.finish(state)
    time.sleep(60)


def main(folder: Path, trials: int, tokens: int, seed: int) -> None:
    """Fork, wait for the size, kill, `trials` times; file sizes are drawn from nothing to a little more than whole."""
    draw = random.Random(seed)
    whole = 17_000 * tokens // 256 + 40_000
    for trial in range(trials):
        path, size = folder / f"{trial}.octavo", draw.randrange(whole)
        child = os.fork()
        if child == 0:
            write_forever(path, tokens)
            os._exit(1)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < size):
            time.sleep(draw.random() * 0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
