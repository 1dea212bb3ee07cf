"""A run that is killed at random moments, and one whose disk is full: processes of their own, ended by the system."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import resource, sys
from functools import partial
from pathlib import Path
import torch
torch.set_num_threads(1)
from octavo.config.errors import CheckpointError
from octavo.train.loop import RunOptions, train
from octavo.train.spikes import SpikeRule
from octavo.train.stabilise import Answer, Stabilise
from tests.support.training import feed_of, small_recipe
stabilise = Stabilise(answer=Answer.AHEAD, always=True, lag=2, every=4, keep=2, look_every=5, look_tokens=64)
recipe = small_recipe(dense=12, sparse=4, stabilise=stabilise)
options = RunOptions(out=Path(sys.argv[1]), save_seconds=float(sys.argv[2]), log_every=3)
def limit(step, model):
    if step == int(sys.argv[3]):  # no file may grow beyond this, as on a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    train(recipe, partial(feed_of, recipe), options, before_step=limit)
except CheckpointError as error:
    sys.exit(str(error))
"""


def start(out: Path, *, save_seconds: float, full_at: int = -1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(out), str(save_seconds), str(full_at)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = out / "checkpoint"
    return {name: value for shard in sorted(folder.glob("*.safetensors")) for name, value in load_file(shard).items()}


def done(out: Path) -> int:
    return json.loads((out / "checkpoint" / "checkpoint.json").read_text())["step"]


def steps(out: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: v for name, v in line.items() if name not in ("tokens_per_s", "mfu")} for line in found]


def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """SIGKILL while it trains or saves, a checkpoint after every step; then the end, as if nothing had happened."""
    whole = start(tmp_path / "whole", save_seconds=1e9)
    draw, kills, out = random.Random(3), 0, tmp_path / "killed"
    log = out / "log.jsonl"
    while kills < 2:
        process, before = start(out, save_seconds=0.0), log.stat().st_mtime if log.exists() else 0.0
        while process.poll() is None and (not log.exists() or log.stat().st_mtime == before):
            time.sleep(0.01)  # until it has begun: the first log line of this leg
        time.sleep(draw.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        kills += 1
        assert process.wait() in (-signal.SIGKILL, 0)
        process.communicate()
    last = start(out, save_seconds=1e9)
    assert (last.communicate()[1], last.returncode) == ("", 0)
    assert (whole.communicate()[1], whole.returncode) == ("", 0)
    assert done(out) == done(tmp_path / "whole") == 16
    expected, found = weights(tmp_path / "whole"), weights(out)
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []
    assert steps(out) == steps(tmp_path / "whole")


def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(tmp_path: Path) -> None:
    process = start(tmp_path, save_seconds=0.0, full_at=3)
    message = process.communicate()[1].strip()
    assert process.returncode == 1
    assert "the checkpoint of step 4 cannot be written; the one before is kept: " in message
    assert "File too large" in message
    assert done(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log.jsonl"]
