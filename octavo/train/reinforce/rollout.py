"""Answers drawn by our own engine from the weights as they are, with the log-probability of every token.

Covers: the engine's copy of the weights, groups of answers that share their prompt's pages, steps of many sequences on
a GPU, seeds. Does not cover: which experts were chosen: several updates replay what training chose (`update`), and what
the engine's rounding changes is weighed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.config.errors import LimitError
from octavo.engine.gpu.choice import make_runner, why_plain
from octavo.engine.request import Request
from octavo.engine.runner import Runner
from octavo.engine.sampler import Sampler
from octavo.model.checkpoint.names import keeps_fp32
from octavo.model.transformer import Transformer

_TOGETHER = 8  # sequences of a step on a GPU; its runner keeps as many in place
_SEED = 2**31
_ROOM = 1 << 16  # tokens of a pool at least: what a runner of a GPU captures is made once for each set of weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer. ids: its tokens, the end mark included where it ended by itself (`ended`). logprobs: FP64 [n], of
    each token at the temperature it was drawn at."""

    ids: tuple[int, ...]
    logprobs: np.ndarray
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How answers are drawn: most tokens of one, and the temperature; 0 takes the likeliest tokens."""

    max_tokens: int
    temperature: float = 1.0

    def request(self, seed: int) -> Request:
        return Request(max_tokens=self.max_tokens, temperature=self.temperature, seed=seed)


class Actor:
    """The engine over a copy of a model's weights; `refresh` copies them anew."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self.refresh()

    def refresh(self) -> None:
        """Take over the weights as they are now: on a GPU in BF16, as they serve there, else in their own dtype."""
        weight = self._model.embed.weight
        dtype = torch.bfloat16 if weight.is_cuda else weight.dtype
        net = Transformer(self._model.config)
        net.load_state_dict(self._model.state_dict())
        for name, parameter in net.named_parameters():
            parameter.data = parameter.data.to(weight.device, parameter.dtype if keeps_fp32(name) else dtype)
        self._net = net.to(weight.device).eval().requires_grad_(False)
        self._made: tuple[int, Runner] | None = None

    def draw(self, prompt: Sequence[int], seeds: Sequence[int], how: Drawing) -> list[Sample]:
        """One answer to `prompt` for each seed; equal seeds and weights give equal answers. Raises LimitError for a
        prompt that leaves no room for an answer."""
        runner = self._runner(len(prompt) + how.max_tokens, len(seeds))
        runner.check_room(len(prompt) + how.max_tokens, 0, what="a prompt and its longest answer")
        if not prompt:
            raise LimitError("the prompt has no tokens; an answer needs at least one before it")
        ids = np.array(prompt, dtype=np.int32)
        made: list[Sample] = []
        with closing(runner.new_state()) as before:
            runner.read(ids[:-1], before)
            for first in range(0, len(seeds), _TOGETHER):
                made += _drawn(runner, before, int(ids[-1]), seeds[first : first + _TOGETHER], how)
        return made

    def _runner(self, length: int, count: int) -> Runner:
        """A runner with room for `count` sequences of `length` tokens, the one of before if it has."""
        room = max(_ROOM, (count + 1) * (length + PAGE_TOKENS))
        if self._made is None or self._made[0] < room:
            self._made = room, self._new_runner(room)
        return self._made[1]

    def _new_runner(self, room: int) -> Runner:
        weight = self._net.embed.weight
        exact = {torch.float64: RowFormat.FP64, torch.float32: RowFormat.FP32, torch.bfloat16: RowFormat.BF16}
        layout = CacheLayout(self._net.config, main=exact[weight.dtype], index=exact[weight.dtype])
        fixed = why_plain(layout, weight.dtype, weight.device) is None
        pool = PagePool(layout, capacity_tokens=room, device=weight.device, fixed=fixed)
        return make_runner(self._net, pool, chunk=None, name="the policy")


def seed_of(seed: int, step: int, prompt: int, sample: int) -> int:
    """The seed of one answer, a function of its place alone."""
    return int(np.random.default_rng((seed, step, prompt, sample)).integers(_SEED))


def _drawn(runner: Runner, before: SequenceState, last: int, seeds: Sequence[int], how: Drawing) -> list[Sample]:
    """Answers that go on from `before`, whose prompt ends with token `last`; their steps are done together."""
    end = runner.model.config.eos_token_id
    samplers = [Sampler(how.request(seed)) for seed in seeds]
    ids: list[list[int]] = [[] for _ in seeds]
    logprobs: list[list[float]] = [[] for _ in seeds]
    with ExitStack() as stack:
        states = [stack.enter_context(closing(before.fork())) for _ in seeds]
        running, newest = list(range(len(seeds))), [last] * len(seeds)
        while running:
            rows = _step(runner, [newest[i] for i in running], [states[i] for i in running])
            for i, logits in zip(running, rows, strict=True):
                newest[i] = samplers[i].pick(logits)
                ids[i].append(newest[i])
                logprobs[i].append(_logprob(logits, newest[i], how.temperature))
            running = [i for i in running if newest[i] != end and len(ids[i]) < how.max_tokens]
    return [
        Sample(ids=tuple(tokens), logprobs=np.array(chances), ended=tokens[-1] == end)
        for tokens, chances in zip(ids, logprobs, strict=True)
    ]


def _step(runner: Runner, tokens: Sequence[int], states: Sequence[SequenceState]) -> list[Tensor]:
    """Logits [V] behind one more token of each state."""
    given = [np.array([token], dtype=np.int32) for token in tokens]
    if runner.pool.fixed:
        from octavo.engine.gpu.runner import GpuRunner  # loads triton

        assert isinstance(runner, GpuRunner)
        return [logits[-1] for logits in runner.step_many(given, states)]
    return [runner.step(ids, state).logits[-1] for ids, state in zip(given, states, strict=True)]


def _logprob(logits_V: Tensor, token: int, temperature: float) -> float:
    """Of the distribution that was drawn from; at temperature 0 of the plain one."""
    scaled = logits_V.double() / (temperature or 1.0)
    return float(scaled[token] - scaled.logsumexp(0))
