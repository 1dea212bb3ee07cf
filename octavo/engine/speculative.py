"""Several tokens a step of the model: drafts of its multi-token predictor, verified by the model itself.

Covers: `Decoding`, which reads the drafts behind the token they follow and hands out the rows of logits one after the
other, or greedy tokens. Does not cover: proposing (`drafter`), drawing tokens (`sampler`), answers (`generation`).

A token is chosen from the model's own row, as without drafts, and only then compared with the draft: equal, and the row
behind it is there already; else the rows behind it are rolled back. So drafts change how long an answer takes, never
what it is. For a greedy choice that accepts the longest beginning of the drafts that greedy decoding would make. For a
drawn one it is speculative sampling (arXiv 2211.17192) with all of the draft's probability q on one token x: x is
accepted with probability min(1, p(x) / q(x)) = p(x), else the token is drawn from max(p - q, 0) normalised, which is p
without x; a single draw from p does both. The draws are those of plain decoding, so a seed gives the same tokens too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.engine.runner import Runner, StepOutput
from octavo.engine.sampler import Top, refuse_nan, tops
from octavo.kernels import dispatch
from octavo.model.attention import Mass
from octavo.model.block import BlockReport
from octavo.model.stretch import Row, Stretch
from octavo.model.transformer import Transformer

# Gaps between two logits, as parts of the larger, that rounding could turn round: by the dtype of weights, and for
# anything narrower. Simulated FP8 is narrow: a value between two codes falls to either.
_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
_CLOSE_NARROW = 0.05


class Decoding:
    """The rows of logits of one answer: that of the prompt's last token, then that of every token that was chosen.

    While it goes on the state may hold rows of drafts behind the `length` tokens that count; `close` rolls them back.
    `drafted` and `accepted` count draft tokens, `steps` the steps of the model behind the prompt. A row that was given
    out is read before the next one is asked for.
    """

    def __init__(
        self, runner: Runner, state: SequenceState, *, controls: Controls | None = None, draft: int | None = None,
        greedy: bool = False,
    ) -> None:  # fmt: skip
        """`draft` tokens are proposed at a time (see `Request`). `greedy`: every token is one that `greedy` chose, and
        nobody reads the logits of the row that it returns, so that without drafts the next step may be under way before
        the host knows the token that it begins with. Raises UsageError when the model cannot draft."""
        self._runner, self._state = runner, state
        self._draft = runner.draft_count(draft)
        self._drafter = runner.drafter() if self._draft else None
        self.change(controls)
        self._alone = greedy and self._plain
        self._ahead = runner.ahead(state) if self._alone else None
        self._stretch: Stretch | None = None
        self._no_streams = torch.empty(1, 0, 0)  # made once: torch lets another thread's Python run at each operation
        self._best: int | None = None  # the likeliest id of the row given out last, where the step said it
        self._close = closeness(runner.model)
        self._ids: list[int] = []  # what the newest step read; the row at self._at was given out last
        self._at = -1
        self._most = 0  # tokens of use behind the one that is chosen from the row given out last
        self._output: StepOutput
        self._tops: list[Top] | None = None  # of all rows of the newest step, once they are asked for
        self.drafted = self.accepted = self.steps = 0

    def change(self, controls: Controls | None) -> None:
        """Take the next steps under `controls`."""
        self._controls = controls
        self._plain = not self._draft and controls in (None, Controls())

    @property
    def length(self) -> int:
        """Tokens of the state that are no drafts: the prompt and what was chosen and read."""
        stretch = self._stretch
        return self._state.length + (0 if stretch is None else stretch.done) - self._waiting

    @property
    def _waiting(self) -> int:
        """Rows of drafts that nothing was chosen for yet."""
        return len(self._ids) - 1 - self._at

    def begin(self, prompt: np.ndarray, *, most: int = 0) -> StepOutput:
        """Read the prompt [T]; its last row. At most `most` tokens behind the one chosen from it are of use."""
        output = self._runner.read_last(prompt, self._state, controls=self._controls)
        self._take(output, [int(token) for token in prompt[-len(output.streams) :]])
        self._at, self._most = len(self._ids) - 1, most
        return self._row()

    def next(self, token: int, *, most: int) -> StepOutput:
        """The row behind `token`, which was chosen from the row before; at most `most` tokens behind the one that is
        chosen from this row are of use."""
        stretch = self.stretch(most=most + 1)
        if stretch is not None:
            [row] = self._runner.together([stretch], [token])
            return self.took(token, row)
        self._most = most
        if self._waiting and self._ids[self._at + 1] == token:
            self._at += 1
            self.accepted += 1
            return self._row()
        self.close()
        made = None if self._ahead is None else self._ahead.take(token)
        if made is not None:
            self.steps += 1
            self._take(made, [token])
            return self._row()
        drafts = self._drafts(token, most)
        self.drafted += len(drafts)
        self._step([token, *drafts])
        return self._row()

    def beside(self, *, most: int) -> Stretch | None:
        """What makes the next step, one of at most `most`, together with those of other answers (`Runner.together`,
        then `took`); None where `next` must make it."""
        turn = self._runner.turn(self._state) if self._plain else None
        return self.stretch(most=most) if turn is None else turn

    def stretch(self, *, most: int) -> Stretch | None:
        """What makes the next steps, at most `most`, one after the other; None where `next` makes it by other means."""
        held = self._stretch
        if held is not None and held.left:
            return held
        if not self._plain or self._ahead is not None:
            return None
        if held is not None:
            held.settle()
        self._stretch = self._runner.stretch(self._state, most=most, before=held)
        return self._stretch

    def took(self, token: int, row: Row) -> StepOutput:
        """The row behind `token`, which the stretch's step gave."""
        self.steps += 1
        if self._stretch is not None and not self._stretch.left:
            self._stretch.settle()  # here and not with what begins the next one: neither step waits for both
        output = StepOutput(row.logits, (), self._no_streams)
        self._take(output, [token])
        self._best = row.best
        return output

    def greedy(self) -> tuple[int, StepOutput]:
        """The token that `Sampler` chooses at temperature 0 from the row given out last, and that row; where rounding
        could have made it another, both from a step of its own. CheckpointError for NaN."""
        if self._best is not None:
            refuse_nan(float("nan") if self._best < 0 else 0.0)
            return self._best, self._output
        row = self._row()
        if self._ahead is not None:
            return self._ahead.choose(row.logits, go_on=self._most > 0), row
        if self._tops is None:
            self._tops = tops(self._output.logits)
        top = self._tops[self._place]
        if self._doubt(top.best, top.second):
            row = self.again()
            [top] = tops(row.logits)
        return top.token, row

    def doubtful(self, logits_V: Tensor) -> bool:
        """Whether the likeliest token of the row given out last, of which these are the logits (or what a rule left of
        them), could be another in a step of its own, where rows of one step are rounded unlike those of single ones."""
        if not self._may_differ:
            return False
        [top] = tops(logits_V.unsqueeze(0))
        return self._doubt(top.best, top.second)

    @property
    def _may_differ(self) -> bool:
        return bool(self._close) and len(self._ids) > 1 and self.steps > 0

    def _doubt(self, best: float, second: float) -> bool:
        return self._may_differ and best - second < self._close * max(abs(best), abs(second))

    def again(self) -> StepOutput:
        """The row given out last, from a step of its own."""
        token, kept = self._ids[self._at], self._at
        if self._drafter is not None and kept:
            first = self._state.length - len(self._ids)
            self._drafter.propose(self._output.streams[:kept], self._ids[1 : kept + 1], first=first, count=0)
        self._state.rollback(len(self._ids) - kept)
        self._step([token])
        return self._row()

    def move(self, state: SequenceState) -> None:
        """Go on with another state that holds what this one holds, from where no drafts wait (`close`)."""
        assert not self._waiting, "drafts wait"
        self._state, self._stretch = state, None
        self._ahead = self._runner.ahead(state) if self._alone else None

    def close(self) -> None:
        """Let the state hold what was chosen and read: roll back the rows of drafts that were not accepted."""
        if self._stretch is not None:
            self._stretch.settle()
        waiting = self._waiting
        self._ids = self._ids[: self._at + 1]
        self._state.rollback(waiting)

    def _drafts(self, token: int, most: int) -> list[int]:
        """What may come behind `token`, which comes behind all that counts."""
        state, kept = self._state, len(self._ids)
        count = min(self._draft, most, self._runner.limit - state.length - 1)
        if self._drafter is None or count < 1:
            return []
        following = [*self._ids[1:], token]
        return self._drafter.propose(self._output.streams[:kept], following, first=state.length - kept, count=count)

    def _step(self, ids: list[int]) -> None:
        """Without drafts a row is read before the next step and nothing of it later, so that it may be lent."""
        self.steps += 1
        lent = self._drafter is None
        made = self._runner.step(np.array(ids), self._state, controls=self._controls, all_rows=True, lent=lent)
        self._take(made, ids)

    def _take(self, output: StepOutput, ids: list[int]) -> None:
        self._output, self._ids, self._at, self._tops, self._best = output, ids, 0, None, None

    @property
    def _place(self) -> int:
        """Row of the newest step's logits that was given out last; of the prompt only the last row has logits."""
        return self._at - len(self._output.streams) + len(self._output.logits)

    def _row(self) -> StepOutput:
        """The row at self._at as a step of one token would give it."""
        output, at, place = self._output, self._at, self._place
        reports = tuple(_of_row(report, at) for report in output.reports)
        return StepOutput(output.logits[place : place + 1], reports, output.streams[at : at + 1])


def rows_alike(model: Transformer) -> bool:
    """Whether a step of up to 8 tokens gives each of them the bits that a step of its own gives.

    The loops for the CPU do, whose sums run in one order whatever the number of tokens. Products of torch do not.
    """
    weight = model.embed.weight
    loops = weight.is_cpu and weight.dtype == torch.float32 and dispatch.body() is dispatch.Body.FAST
    return loops and not model.config.quant_sim


def closeness(model: Transformer) -> float:
    """The part of a logit by which another must be smaller for a choice between the two to be beyond doubt; 0 where
    rows are alike."""
    if rows_alike(model):
        return 0.0
    return _CLOSE_NARROW if model.config.quant_sim else _CLOSE.get(model.embed.weight.dtype, _CLOSE_NARROW)


def _of_row(report: BlockReport, row: int) -> BlockReport:
    """The report of one row of a step of one sequence."""
    if not report.mass:
        return report
    one = slice(row, row + 1)
    masses = [Mass(m.ratio, m.values[:, one], None if m.index is None else m.index[:, one]) for m in report.mass]
    return BlockReport(report.index_loss, tuple(masses), report.load)
