"""Times between the tokens of one answer, as a record tells them.

Covers: `spread` (how long they are, in parts of a usual one), `attributed` (what the long ones went to), `beside` (each
in parts of what the same tokens take otherwise). Does not cover: taking the times (`benchmarks.service_gaps`), the
clock (`waits`).
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from octavo.bench.waits import Parts, cause

LONG = 3.0
"""Gaps beyond so many usual ones are counted and laid to a cause."""
_TOLD = 5
_AROUND = 64  # gaps on each side that make the usual one of a place


def spread(gaps: Sequence[float], usual: float) -> dict[str, Any]:
    """Count, seconds and parts of `usual` seconds of at least one gap."""
    found = {
        "median": statistics.median(gaps), "p99": float(np.quantile(gaps, 0.99)),
        "p999": float(np.quantile(gaps, 0.999)), "longest": max(gaps),
    }  # fmt: skip
    seconds = {f"{name}_seconds": value for name, value in found.items()}
    over = {f"{name}_over_usual": value / usual for name, value in found.items()}
    return {"gaps": len(gaps), **seconds, **over, "above_3x": sum(gap > LONG * usual for gap in gaps)}


def attributed(gaps: Sequence[Parts | None], usual: float, own: float) -> dict[str, Any]:
    """Gaps without what is laid to the machine, in parts of `own`, which is such a one of the usual gap; how many long
    ones each cause made; what the longest went to. Of those that the system tells; empty where it tells of none."""
    known = [gap for gap in gaps if gap is not None]
    if not known:
        return {}
    over = [gap.own / own for gap in known]
    long = [gap for gap in known if gap.whole > LONG * usual]
    causes = Counter(str(cause(gap, own)) for gap in long)
    longest = sorted(known, key=lambda gap: gap.whole, reverse=True)[:_TOLD]
    return {
        "usual_own_seconds": own, "own_median_over_usual": statistics.median(over),
        "own_p99_over_usual": float(np.quantile(over, 0.99)), "own_p999_over_usual": float(np.quantile(over, 0.999)),
        "own_longest_over_usual": max(over), "own_above_3x": sum(each > LONG for each in over),
        "above_3x_by_cause": dict(causes.most_common()), "untold": len(gaps) - len(known),
        "own_longest_went_to": _causes(sorted(known, key=lambda gap: gap.own, reverse=True)[:_TOLD], own),
        "longest_went_to": _causes(longest, own),
    }  # fmt: skip


def _causes(gaps: Sequence[Parts], own: float) -> list[dict[str, Any]]:
    return [{**asdict(gap), "own": gap.own, "cause": str(cause(gap, own))} for gap in gaps]


def beside(gaps: Sequence[float], alone: Sequence[float]) -> dict[str, Any]:
    """Each gap in parts of the usual one of the same tokens alone (the median around them): steps take longer the more
    an answer has behind it, whatever runs beside. As far as both go; at least one of each."""
    count = min(len(gaps), len(alone))
    usual = [statistics.median(alone[max(i - _AROUND, 0) : i + _AROUND + 1]) for i in range(0, count, _AROUND)]
    over = [gaps[i] / usual[i // _AROUND] for i in range(count)]
    return {
        "gaps": count, "median": statistics.median(over), "p99": float(np.quantile(over, 0.99)),
        "p999": float(np.quantile(over, 0.999)), "longest": max(over), "above_3x": sum(each > LONG for each in over),
    }  # fmt: skip
