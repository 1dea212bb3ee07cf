"""Running units: the next one that nobody runs, until none is left or the time is over.

Covers: which unit may begin, twins in two parts, failures, the line of a finished unit. Does not cover: what a unit is
(`units`), starting several processes (`launch`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import traceback
from pathlib import Path

import torch

from octavo.data.pack import PackedText
from octavo.model.transformer import Transformer
from octavo.train.loop import RunOptions, train
from octavo.train.run import with_vocabulary
from runs.stabilisers import branch
from runs.stabilisers.claims import Claim, append
from runs.stabilisers.measures import done_units, measured
from runs.stabilisers.probe import Probe, probe_batch
from runs.stabilisers.units import Unit, branch_step, feed_of, grow_expert, recipe_of, units_of

_WAIT = 0.25  # seconds between looks for a unit that may begin


def work(options: argparse.Namespace, until: float | None) -> bool:
    """Run what is missing of all units until `time.time()` is `until`; whether all went well. Several processes may do
    this with the same options. A unit whose run raised is left out from then on, with its reason in its folder."""
    units, well, warm = units_of(options), True, False
    while True:
        if until is not None and time.time() >= until:
            print("out of time; the same command goes on", flush=True)
            return well
        done = done_units(options.out)
        left = [unit for unit in units if unit not in done and not failed(options.out, unit)]
        left = [unit for unit in left if unit.twin in done or not failed(options.out, unit.twin)]
        if not left:
            return well
        for unit in left:
            if _ready(unit, options):
                with Claim(options.out, unit.name) as claim:
                    if claim.taken and unit not in done_units(options.out):
                        well &= _one(unit, options, until)
                        break
        else:
            if options.device == "cuda" and not warm:
                _warm(units[0], options)
            warm = True
            time.sleep(_WAIT)


def _warm(unit: Unit, options: argparse.Namespace) -> None:
    """Compile and load what a unit needs, by a step of one: there is nothing else to do."""
    vocabulary = PackedText(options.pack).vocab_size
    chosen, small = with_vocabulary(recipe_of(unit, options, vocabulary=vocabulary, steps=1), options.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        where = _where(Path(folder), options, None, save=False)
        made = train(chosen, feed_of(chosen, unit, options), where, engram_map=small)
        batch = probe_batch(options, chosen.seed, torch.device(options.device))
        probe = Probe(Path(folder) / "probe.jsonl", batch, chosen.schedule.plan(0), 0)
        probe.before_fault(0, made.model)
        probe(0, made.model)


def failed(out: Path, unit: Unit) -> bool:
    """Whether an earlier try of the unit raised."""
    return (out / unit.name / "failed.txt").exists()


def _ready(unit: Unit, options: argparse.Namespace) -> bool:
    """Whether the unit may begin: its twin has come to the branch."""
    return unit == unit.twin or branch_step(options) == 0 or branch.kept(options.out / unit.twin.name)


def _one(unit: Unit, options: argparse.Namespace, until: float | None) -> bool:
    """Run a unit; False if that raised."""
    since = time.monotonic()
    try:
        if not run(unit, options, until):
            return True
        line = measured(options.out, unit, options.at) | {"seconds": round(time.monotonic() - since, 1)}
        shutil.rmtree(options.out / unit.name / "checkpoint", ignore_errors=True)
    except Exception:
        folder = options.out / unit.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.txt").write_text(traceback.format_exc())
        traceback.print_exc()
        return False
    append(options.out / "units.jsonl", line)
    print(json.dumps(line), flush=True)
    return True


def run(unit: Unit, options: argparse.Namespace, until: float | None) -> bool:
    """Run a unit from its twin's branch, or the twin itself; whether it is done. One that ran out of time begins again,
    a twin from its branch."""
    folder, common = options.out / unit.name, branch_step(options)
    vocabulary = PackedText(options.pack).vocab_size
    chosen, small = with_vocabulary(recipe_of(unit, options, vocabulary=vocabulary), options.tokenizer)
    (folder / "probe.jsonl").unlink(missing_ok=True)
    if common and unit == unit.twin and not branch.kept(folder):
        shutil.rmtree(folder, ignore_errors=True)
        part, _ = with_vocabulary(recipe_of(unit, options, vocabulary=vocabulary, steps=common), options.tokenizer)
        where = _where(folder, options, until, save=True)
        if not train(part, feed_of(part, unit, options), where, engram_map=small).finished:
            return False
        branch.keep(folder)
    elif common:
        branch.begin(options.out / unit.twin.name, folder, chosen)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    batch = probe_batch(options, chosen.seed, torch.device(options.device))
    probe = Probe(folder / "probe.jsonl", batch, chosen.schedule.plan(common), options.at)

    def hook(step: int, model: Transformer) -> None:
        probe.before_fault(step, model)
        if unit.fault == "expert":
            grow_expert(step, model, options)
        probe(step, model)

    where = _where(folder, options, until, save=False)
    return train(chosen, feed_of(chosen, unit, options), where, engram_map=small, before_step=hook).finished


def _where(folder: Path, options: argparse.Namespace, until: float | None, *, save: bool) -> RunOptions:
    left = None if until is None else max(0.0, until - time.time())
    return RunOptions(
        out=folder, max_seconds=left, save_seconds=1e9, save_last=save, device=options.device, log_every=1
    )

