"""What a line of the log says of a step.

Covers: the numbers of a step's report, and what a run counts over all its steps. Does not cover: where lines go (`log`,
`board`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from octavo.data.rows import KINDS
from octavo.train.schedule import StepPlan
from octavo.train.step import StepReport


def step_line(report: StepReport, plan: StepPlan) -> dict[str, Any]:
    """Losses, answers, norm, load and plan of a step, by name."""
    return {
        "stage": plan.stage,
        "loss": report.loss.item(), "text": report.text_loss.item(), "answer": report.answer_loss.item(),
        "accuracy": report.answer_accuracy.item(), "index": report.index_loss.item(), "balance": report.balance.item(),
        "grad_norm": report.grad_norm.item(), "max_load": report.max_load.item(),
        "rate": plan.rate, "row": plan.row_length, "topk": plan.topk or 0,
    } | _by_kind(report) | _of_predictor(report)  # fmt: skip


def _of_predictor(report: StepReport) -> dict[str, float]:
    """Loss of the token after next, and the share of answers' tokens that the predictor finds; nothing without one."""
    if report.mtp_loss is None or report.mtp_accuracy is None:
        return {}
    return {"mtp": report.mtp_loss.item(), "mtp_accuracy": report.mtp_accuracy.item()}


def _by_kind(report: StepReport) -> dict[str, float]:
    """Share of right answer tokens of every kind that was asked."""
    hits, asked = report.hits_by_kind.tolist(), report.asked_by_kind.tolist()
    return {name: hits[i] / asked[i] for i, name in enumerate(KINDS, 1) if asked[i]}


class Tally:
    """Counts of a run: skipped steps, and all that were computed, those after going back once more."""

    def __init__(self) -> None:
        self.skipped = self.computed = 0

    def add(self, report: StepReport) -> None:
        """Count a step."""
        self.computed += 1
        self.skipped += report.skipped

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Both counts."""
        return {}, {"skipped": self.skipped, "computed": self.computed}

    def check(self, values: Mapping[str, Any]) -> None:
        """All counts can be gone on from."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.skipped, self.computed = values["skipped"], values["computed"]
