"""When a training step counts as a spike.

Covers: the rule, and the recent values that it compares with. Does not cover: what follows (`stabilise`).

A loss is a spike above median + max(floor, deviations x 1.4826 x MAD) of the recent ones, where MAD is the median
distance from the median and 1.4826 makes it a standard deviation for normal values; a gradient norm is one above
`norm_factor` times its median; and so is any value that is not finite.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

from octavo.config.errors import ConfigError

_NORMAL = 1.4826


@dataclass(frozen=True, kw_only=True)
class SpikeRule:
    """Values of `window` steps are looked back at; before there are `least` of them only non-finite ones count."""

    window: int = 64
    least: int = 32
    floor: float = 0.15
    deviations: float = 6.0
    norm_factor: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.window:
            raise ConfigError(f"spike rule: least is {self.least}; it must be from 1 to window {self.window}")


class Watch:
    """Losses and gradient norms of the last steps of one stage."""

    def __init__(self, rule: SpikeRule) -> None:
        self.rule = rule
        self._stage = ""
        self._losses: deque[float] = deque(maxlen=rule.window)
        self._norms: deque[float] = deque(maxlen=rule.window)

    def judge(self, stage: str, loss: float, norm: float) -> str | None:
        """What makes this step a spike, None if nothing does; its finite values are remembered. A new stage, whose
        losses are of another size, starts anew."""
        if stage != self._stage:
            self._stage = stage
            self._losses.clear()
            self._norms.clear()
        found = self._found(loss, norm)
        if math.isfinite(loss) and math.isfinite(norm):
            self._losses.append(loss)
            self._norms.append(norm)
        return found

    def _found(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"loss is {loss}"
        if not math.isfinite(norm):
            return f"gradient norm is {norm}"
        if len(self._losses) < self.rule.least:
            return None
        middle = median(self._losses)
        spread = median(abs(x - middle) for x in self._losses)
        limit = middle + max(self.rule.floor, self.rule.deviations * _NORMAL * spread)
        if loss > limit:
            return f"loss {loss:.4f} is above {limit:.4f}"
        usual = median(self._norms)
        if norm > self.rule.norm_factor * usual:
            return f"gradient norm {norm:.4g} is above {self.rule.norm_factor:g} x {usual:.4g}"
        return None

    def state(self) -> dict[str, Any]:
        """What `restore` takes; of plain numbers."""
        return {"stage": self._stage, "losses": list(self._losses), "norms": list(self._norms)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._stage = state["stage"]
        for kept, values in ((self._losses, state["losses"]), (self._norms, state["norms"])):
            kept.clear()
            kept.extend(values)
