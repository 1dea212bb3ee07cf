"""One case: checked against its reference first, then timed beside its bound and its peers.

Covers: the outcome of a case as plain values (`octavo.bench.record` names the fields); whatever goes wrong becomes an
outcome too. Does not cover: which cases, in which process, for how long (`run`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from octavo.bench.bounds import Rates
from octavo.bench.case import Case
from octavo.bench.sampler import Call, Sampler, sampler
from octavo.bench.surroundings import gpu
from octavo.bench.timing import Spread, WarmUp, alternate, ratio, warm_up

WARM_SECONDS = 3.0
_OURS = "ours"
Sampling = Callable[[Call, torch.device], Sampler]


def measure(
    case: Case, device: torch.device, rates: Rates | None, *, timed: bool, sampling: Sampling = sampler
) -> dict[str, Any]:
    """Check `case` on `device`; if its result is right and it is `timed`, time it. Raises nothing but an interrupt."""
    named = {"op": case.op, "name": case.name, "size": case.size, "headline": case.headline}
    try:
        inputs = case.inputs(device)
        outcome = _gate(case, inputs, device)
        if outcome["status"] == "right" and timed:
            outcome |= _timed(case, inputs, device, rates, sampling) | {"status": "ok"}
    except Exception as error:  # whatever a case raises is its outcome, and the next case is measured
        outcome = {"status": "failed", "message": said(error)}
    inputs = None  # before memory is handed back
    gc.collect()
    if device.type == "cuda" and outcome["status"] != "failed":
        torch.cuda.empty_cache()
    return named | outcome


def said(error: BaseException) -> str:
    """Kind and message of `error` in one line of at most 400 characters."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 400 else text[:399] + "…"


def _gate(case: Case, inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """right or wrong, the error, and what the first call took, compiling included."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    got = case.run(**inputs)
    if on_gpu:
        torch.cuda.synchronize(device)
    found: dict[str, Any] = {"first_call_seconds": time.perf_counter() - began}
    if on_gpu:
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    error = float(case.error(got, case.reference(**inputs)))
    found |= {"error": error, "tolerance": case.tolerance}
    if not error <= case.tolerance:  # NaN is wrong too
        return found | {"status": "wrong", "message": f"error {error:.3g} above {case.tolerance:.3g}"}
    return found | {"status": "right"}


def _timed(
    case: Case, inputs: dict[str, Any], device: torch.device, rates: Rates | None, sampling: Sampling
) -> dict[str, Any]:
    """Times of ours and of every peer in turn, the bound, shares and ratios."""
    calls: dict[str, Call] = {_OURS: partial(case.run, **inputs)}
    calls |= {name: partial(peer, **inputs) for name, peer in case.peers.items()}
    samplers: dict[str, Sampler] = {}
    warmed: dict[str, WarmUp] = {}
    peers: dict[str, dict[str, Any]] = {}
    for name, call in calls.items():
        try:
            sample = sampling(call, device)
            series = sample.series
            warmed[name] = warm_up(lambda one=sample, of=series: one()[of], cap_seconds=WARM_SECONDS)
            samplers[name] = sample
        except Exception as error:
            if name == _OURS:
                raise
            peers[name] = {"message": said(error)}
    taken = alternate(samplers)
    series = samplers[_OURS].series
    state = {"gpu": gpu()} if device.type == "cuda" else {}
    parts = {
        name: {
            "times": {kind: Spread.of(values).as_dict() for kind, values in taken[name].items()},
            "stable": warmed[name].stable,
            "warm_up_seconds": warmed[name].seconds,
            **sample.about,
        }
        for name, sample in samplers.items()
    }
    for name in samplers:
        if name != _OURS:
            peers[name] = parts[name] | {"ratio": ratio(taken[name][series], taken[_OURS][series]).as_dict()}
    seconds = {kind: spread["median"] for kind, spread in parts[_OURS]["times"].items()}
    return parts[_OURS] | {"series": series, "peers": peers, **state, **_bound(case, rates, series, seconds)}


def _bound(case: Case, rates: Rates | None, series: str, seconds: dict[str, float]) -> dict[str, Any]:
    """The counted work, its bound at measured and data sheet rates, and the shares that were reached."""
    work, measured = case.work, seconds[series]
    found: dict[str, Any] = {
        "work": {"flops": work.flops, "bytes": work.bytes, "unit": work.unit},
        "flops_per_second": work.flops / measured,
        "bytes_per_second": work.bytes / measured,
    }
    bound = None if rates is None else rates.bound(work)
    if rates is None or bound is None:
        why = "rates were not measured" if rates is None else rates.missing.get(work.unit, "no rate of this unit")
        return found | {"bound": {"seconds": None, "share": None, "by": None, "message": why}}
    shares = {kind: bound.seconds / value for kind, value in seconds.items()}
    sheet = rates.sheet_bound(work)
    return found | {
        "bound": {
            "seconds": bound.seconds,
            "by": bound.by,
            "share": shares[series],
            "shares": shares,
            "share_of_sheet": None if sheet is None else sheet.seconds / measured,
        }
    }
