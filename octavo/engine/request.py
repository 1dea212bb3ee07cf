"""What a caller may ask of a generation: how long, how random, where to stop.

Covers: the values and their limits. Does not cover: drawing tokens (`sampler`), matching stop strings (`stops`). Loads
no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from octavo.config.errors import LimitError, UsageError

MAX_SEED = 2**63 - 1
MAX_DRAFT = 7  # a step of the model takes up to 8 tokens at the bits of single ones; 8 can be rolled back at once
DEFAULT_DRAFT = 2  # what a model with an MTP block drafts unless told otherwise


class RequestFields(TypedDict, total=False):
    """The fields of `Request` as keyword arguments of other calls."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float
    seed: int | None
    stop: str | tuple[str, ...] | list[str]
    draft: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How an answer is to be made; every value is checked on construction (LimitError, UsageError).

    max_tokens: most tokens of the answer, from 1.
    temperature: 0 takes the likeliest token (the first of equals); above it divides the logits.
    top_k, top_p, min_p: draw only among the k likeliest; among the fewest whose probabilities reach p; among those at
    least p times as likely as the likeliest. None, 1 and 0 leave them out. They apply in this order.
    seed: 0 .. 2^63 - 1; equal seeds give equal answers whatever else runs. None draws one.
    stop: texts that end the answer; they and what follows are not part of it. One string stands for a tuple of one.
    draft: tokens that the model's MTP block proposes for every step of the model, 0 .. 7. The answer is the same for
    all of them (in BF16, with simulated rounding and on GPUs but for choices as close as rounding). None: as suits the
    model, 0 where it has no such block.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    seed: int | None = None
    stop: str | tuple[str, ...] | list[str] = ()
    draft: int | None = None

    def __post_init__(self) -> None:
        whole("max_tokens", self.max_tokens, least=1)
        _real("temperature", self.temperature, least=0.0)
        _real("top_p", self.top_p, least=0.0, most=1.0, open_below=True)
        _real("min_p", self.min_p, least=0.0, most=1.0)
        if self.top_k is not None:
            whole("top_k", self.top_k, least=1)
        if self.seed is not None:
            whole("seed", self.seed, least=0, most=MAX_SEED)
        if self.draft is not None:
            whole("draft", self.draft, least=0, most=MAX_DRAFT)
        object.__setattr__(self, "stop", _stops(self.stop))


def whole(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """LimitError, naming the field and its limits, unless `value` is an integer from `least` to `most`."""
    limit = f"an integer from {least}" if most is None else f"an integer from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise LimitError(f"{name} is {value!r}; it must be {limit}")
    if value < least or (most is not None and value > most):
        raise LimitError(f"{name} is {value}; it must be {limit}")


def _real(name: str, value: object, *, least: float, most: float = math.inf, open_below: bool = False) -> None:
    above = f"above {least:g}" if open_below else f"from {least:g}"
    limit = f"a finite number {above}" + ("" if math.isinf(most) else f" to {most:g}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LimitError(f"{name} is {value!r}; it must be {limit}")
    inside = value > least if open_below else value >= least
    if not math.isfinite(value) or not inside or value > most:
        raise LimitError(f"{name} is {value:g}; it must be {limit}")


def _stops(stop: object) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, tuple | list) or not all(isinstance(text, str) for text in stops):
        raise UsageError(f"stop is {stop!r}; it must be a string or several strings")
    for place, text in enumerate(stops):
        if not text:
            raise UsageError(f"stop[{place}] is empty; a stop string needs at least one character")
    return tuple(stops)
