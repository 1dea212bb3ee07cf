"""The run: prompts, answers, rewards, an update, a line of the log, and again.

Covers: exact resume (a step is a function of the weights and its number), checkpoints, time, the look before and after,
the end where nothing can be learned. Does not cover: which weights ship (`gate` says, `start` does).
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.config.errors import TrainingError
from octavo.evals.report import write_texts
from octavo.model.transformer import Transformer
from octavo.train import checkpoint
from octavo.train.log import RunLog
from octavo.train.optim import Optimizer
from octavo.train.reinforce.advantage import advantages, told_apart
from octavo.train.reinforce.gate import Look, Verdict, verdict
from octavo.train.reinforce.objective import token_weights
from octavo.train.reinforce.prompts import Prompt, Prompts, by_kind
from octavo.train.reinforce.reward import Judge, Scored
from octavo.train.reinforce.rollout import Actor, Drawing, Sample, seed_of
from octavo.train.reinforce.settings import Settings
from octavo.train.reinforce.update import Example, UpdateReport, old_of, parts_of, update

Decode = Callable[[Sequence[int]], str]
Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """out: folder of log, checkpoint and verdict. max_seconds: None: to the end. save_every: steps between checkpoints.

    The last step saves in any case.
    """

    out: Path
    max_seconds: float | None = None
    save_every: int = 10


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended; `verdict` once all steps are done."""

    steps: int
    finished: bool
    last: dict[str, Any]
    verdict: Verdict | None


class Watch:
    """How many prompts had any right answer; part of a checkpoint."""

    def __init__(self) -> None:
        self.asked, self.solved = 0, 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {"asked": self.asked, "solved": self.solved}

    def check(self, values: Mapping[str, Any]) -> None:
        """Any counts can be gone on with."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.asked, self.solved = values["asked"], values["solved"]


def reinforce(
    settings: Settings, model: Transformer, prompts: Prompts, judge: Judge, decode: Decode, options: Options, *,
    reference: Transformer | None = None, show: Show | None = None,
) -> Result:  # fmt: skip
    """Train `model` in place, on the device that it is on. `decode`: text of an answer's tokens. `reference`: the
    weights that the divergence is from, needed where it counts.

    The same call goes on from the checkpoint in `options.out`. Raises TrainingError where too few prompts have any
    right answer, CheckpointError for a checkpoint that cannot be read or written.
    """
    if settings.objective.kl and reference is None:
        raise TrainingError(f"kl is {settings.objective.kl}: the weights that it is measured from are missing")
    run = _Run(settings, model, prompts, judge, decode, options, reference, show)
    return run.go()


class _Run:
    """A run under way; `step` steps are done."""

    def __init__(
        self, settings: Settings, model: Transformer, prompts: Prompts, judge: Judge, decode: Decode, options: Options,
        reference: Transformer | None, show: Show | None,
    ) -> None:  # fmt: skip
        self._settings, self._model, self._prompts, self._judge = settings, model, prompts, judge
        self._decode, self._options, self._reference, self._show = decode, options, reference, show
        self._device = model.embed.weight.device
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = Optimizer(trained, model.config, settings.optim)
        self._log, self._watch = RunLog(options.out / "log.jsonl"), Watch()
        self._parts: dict[str, checkpoint.Part] = {"log": self._log, "watch": self._watch}
        self._folder, self._before_file = options.out / "checkpoint", options.out / "before.json"
        self.step, self.last = 0, {}
        if checkpoint.found_folder(self._folder).exists():
            self.step = checkpoint.load(
                self._folder, model, self._optimizer, recipe=settings.name, parts=self._parts
            )  # fmt: skip
        else:
            self._log.empty()
            self._before_file.unlink(missing_ok=True)
        self._actor = Actor(model)

    def go(self) -> Result:
        """Steps until all are done or the time is over."""
        started = time.monotonic()
        before = self._before()
        while self.step < self._settings.steps:
            self._one()
            self.step += 1
            done = self.step == self._settings.steps
            late = self._options.max_seconds is not None and time.monotonic() - started > self._options.max_seconds
            if done or late or self.step % self._options.save_every == 0:
                checkpoint.save(
                    self._folder, self._model, self._optimizer, step=self.step, recipe=self._settings.name,
                    parts=self._parts,
                )  # fmt: skip
            if late and not done:
                return Result(steps=self.step, finished=False, last=self.last, verdict=None)
        self._actor.refresh()
        found = verdict(before, self._look())
        found.write(self._options.out / "gate.json")
        return Result(steps=self.step, finished=True, last=self.last, verdict=found)

    def _before(self) -> Look:
        """What the weights knew before the first step; kept on disk for a run that goes on."""
        if self.step == 0:
            write_texts(self._before_file.parent, {self._before_file.name: json.dumps(self._look())})
        return json.loads(self._before_file.read_text("utf-8"))

    def _look(self) -> dict[str, list[bool]]:
        """The likeliest answers to the prompts that nothing trains on."""
        prompts = self._prompts.dev(self._settings.dev)
        greedy = Drawing(max_tokens=self._settings.drawing.max_tokens, temperature=0.0)
        answers = [self._actor.draw(prompt.ids, [0], greedy)[0] for prompt in prompts]
        rewards = [self._score(prompt, answer).reward for prompt, answer in zip(prompts, answers, strict=True)]
        return {kind: [value >= 1.0 for value in some] for kind, some in by_kind(prompts, rewards).items()}

    def _score(self, prompt: Prompt, answer: Sample) -> Scored:
        """An answer that did not come to its end is judged as far as it goes."""
        return self._judge.score(prompt, self._decode(answer.ids[: len(answer.ids) - answer.ended]))

    def _one(self) -> None:
        """Draw, judge, learn, write the line."""
        clock = [time.monotonic()]
        settings, step = self._settings, self.step
        prompts = self._prompts.step(step, settings.prompts)
        self._actor.refresh()
        groups = [
            self._actor.draw(
                prompt.ids, [seed_of(settings.seed, step, i, k) for k in range(settings.group)], settings.drawing
            )
            for i, prompt in enumerate(prompts)
        ]
        clock.append(time.monotonic())
        scored = [[self._score(prompt, one) for one in group] for prompt, group in zip(prompts, groups, strict=True)]
        rewards = torch.tensor([[one.reward for one in group] for group in scored], dtype=torch.float64)
        clock.append(time.monotonic())
        reports = self._learn(prompts, groups, rewards)
        clock.append(time.monotonic())
        self._say(prompts, groups, scored, rewards, reports, np.diff(clock).tolist())
        self._watch.asked += len(prompts)
        self._watch.solved += int((rewards.amax(1) >= 1.0).sum())
        if step + 1 == settings.patience and self._watch.solved < settings.least * self._watch.asked:
            raise TrainingError(
                f"{self._watch.solved} of {self._watch.asked} prompts had a right answer in {settings.group}; "
                f"at least {settings.least:.0%} are needed for rewards to teach anything"
            )

    def _learn(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Sample]], rewards: Tensor
    ) -> list[UpdateReport]:
        """The updates of a step, none where the answers of every group are worth the same."""
        examples = self._examples(prompts, groups, rewards)
        if not examples:
            return []
        settings, temperature = self._settings, self._settings.drawing.temperature
        parts = parts_of(examples, settings.rows, self._device)
        old = None if settings.updates == 1 else [old_of(self._model, rows, temperature) for rows in parts]
        return [
            update(
                self._model, self._optimizer, parts, settings.objective, temperature=temperature,
                rate=settings.rate(self.step), clip=settings.clip, old=old,
                reference=self._reference if settings.objective.kl else None,
            )
            for _ in range(settings.updates)
        ]  # fmt: skip

    def _examples(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Sample]], rewards: Tensor
    ) -> list[Example]:
        rules = self._settings.objective
        worth, kept = advantages(rewards, by_spread=rules.by_spread).tolist(), told_apart(rewards).tolist()
        chosen = [
            (prompt, sample, value)
            for prompt, group, values, apart in zip(prompts, groups, worth, kept, strict=True) if apart
            for sample, value in zip(group, values, strict=True)
        ]  # fmt: skip
        lengths = [len(sample.ids) for _, sample, _ in chosen]
        weights = token_weights(lengths, rules.normalise, max_tokens=self._settings.drawing.max_tokens)
        return [
            Example(prompt=prompt.ids, answer=sample.ids, engine=sample.logprobs, advantage=value, weight=weight)
            for (prompt, sample, value), weight in zip(chosen, weights, strict=True)
        ]

    def _say(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Sample]], scored: Sequence[Sequence[Scored]],
        rewards: Tensor, reports: Sequence[UpdateReport], seconds: Sequence[float],
    ) -> None:  # fmt: skip
        """Write the line of the step."""
        samples = [one for group in groups for one in group]
        surprise = np.concatenate([one.logprobs for one in samples])
        ends = Counter(
            f"{prompt.kind} {one.outcome}" for prompt, group in zip(prompts, scored, strict=True) for one in group
        )
        kinds = by_kind(prompts, rewards.mean(1).tolist())
        line = {
            "step": self.step, "reward": float(rewards.mean()),
            **{f"reward {kind}": sum(values) / len(values) for kind, values in sorted(kinds.items())},
            "any_right": float((rewards.amax(1) >= 1.0).double().mean()),
            "told_apart": float(told_apart(rewards).double().mean()), "answers": len(samples),
            "tokens": len(surprise), "ended": sum(one.ended for one in samples) / len(samples),
            "surprise": float(-surprise.mean()), "outcomes": dict(sorted(ends.items())),
            "updates": len(reports), "skipped": sum(one.skipped for one in reports),
            "rate": self._settings.rate(self.step),
        }  # fmt: skip
        if reports:
            final = reports[-1]
            line |= {"loss": final.loss, "grad_norm": final.grad_norm, "clipped": final.clipped,
                     "divergence": final.divergence, "most_ratio": final.most_ratio,
                     "engine_gap": final.gap, "most_engine_gap": final.most_gap}  # fmt: skip
        line |= dict(zip(("seconds_draw", "seconds_judge", "seconds_learn"), seconds, strict=True))
        self._log.write(line)
        self.last = line
        if self._show is not None:
            self._show(line)
