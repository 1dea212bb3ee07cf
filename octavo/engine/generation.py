"""The loop that makes an answer token by token.

Covers: prompt, sampling, end token, stop strings, text as it becomes certain, attention mass on the way; a token at a
time for those who have many answers under way. Does not cover: what the prompt says (`document`, `llm`), spans
(`sources`), drafts (`speculative`), which tokens may come (`quoting`, `serving.grammar`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.engine.answer import Finish
from octavo.engine.attention import MassTally
from octavo.engine.request import Request
from octavo.engine.runner import Runner, StepOutput
from octavo.engine.sampler import Sampler
from octavo.engine.speculative import Decoding
from octavo.engine.stops import StopScanner
from octavo.model.stretch import Row, Stretch
from octavo.text.detokenizer import Detokenizer
from octavo.text.special import Special
from octavo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from octavo.model.block import BlockReport


class Rule(Protocol):
    """Which tokens may come: a quotation, or a grammar."""

    @property
    def watches(self) -> bool:
        """Whether `allowed` looks at the next row's reports of attention, which cost something to make."""
        ...

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        """The logits [V] of the tokens that may come next; all others are minus infinity."""
        ...

    def push(self, token: int) -> None:
        """Take note of the token that was chosen."""
        ...


class Generation:
    """One answer in the making; iterating gives pieces of text, and the properties are complete when it ends.

    The state belongs to the generation until then: it has read the prompt and every answer token but the last one made.
    On the way it may hold drafts too; they are gone when the answer ends or is given up. `advance` makes one token, for
    those who do not iterate; they `close` it.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        state: SequenceState,
        prompt: Sequence[int],
        request: Request,
        *,
        controls: Controls | None = None,
        tally: MassTally | None = None,
        quotation: Rule | None = None,
        look: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """`prompt`: at least one id to read first. `quotation` says which tokens may come. `look` gets every token of
        the answer and the logits [V] that the model gave for it. Raises LimitError when the prompt does not fit into
        the context, UsageError when drafts are asked of a model that makes none."""
        if not prompt:
            raise UsageError("the prompt has no tokens; a generation needs at least one")
        self.prompt = np.array(prompt, dtype=np.int32)
        runner.check_room(len(self.prompt), state.length, what="the prompt")
        self._controls, self._quotation, self._look = controls or Controls(), quotation, look
        self._watched = tally is not None or (quotation is not None and quotation.watches)
        watched = replace(self._controls, mass=True) if self._watched else self._controls
        self._greedy = request.temperature == 0 and quotation is None
        # Logits that are looked at must still be there: a step that is under way early writes over them.
        early = self._greedy and look is None
        self._steps = Decoding(runner, state, controls=watched, draft=request.draft, greedy=early)
        self._output: StepOutput | None = None  # the row that the next token is chosen from
        self._runner, self.state, self.request, self.tally = runner, state, request, tally
        self._sampler, self._scanner = Sampler(request), StopScanner(tuple(request.stop))
        self._ends = {runner.model.config.eos_token_id}
        hidden = [tokenizer.special(mark) for mark in (Special.BOS, Special.EOS)]
        self._detokenizer = Detokenizer(tokenizer, skip=hidden)
        self._parts: list[str] = []
        self.token_ids: list[int] = []
        self.finish: Finish | None = None
        self.seconds = 0.0
        self.first_token_seconds = 0.0

    @property
    def text(self) -> str:
        """Everything given out so far."""
        return "".join(self._parts)

    @property
    def seed(self) -> int:
        """The seed in use; the same request with it gives the same tokens."""
        return self._sampler.seed

    @property
    def finish_reason(self) -> Finish:
        """Why it ended; only once it has."""
        if self.finish is None:
            raise UsageError("the answer is not complete")
        return self.finish

    @property
    def stop(self) -> str | None:
        """The stop string that ended it."""
        return self._scanner.found

    @property
    def drafted_tokens(self) -> int:
        """Tokens that the MTP block proposed."""
        return self._steps.drafted

    @property
    def accepted_tokens(self) -> int:
        """Those of them that the answer went on with."""
        return self._steps.accepted

    def run(self) -> str:
        """Make the whole answer and return its text."""
        for _ in self:
            pass
        return self.text

    def __iter__(self) -> Iterator[str]:
        """Pieces of text, none of them empty; they can be taken once."""
        if self.finish is not None or self.token_ids:
            raise UsageError("this answer has been made already")
        try:
            while self.finish is None:
                piece = self.advance()
                if piece:
                    yield piece
        finally:
            self.close()

    def beside(self) -> tuple[Stretch, int] | None:
        """The step that `advance` would make and the token that it reads, where it may be made together with those of
        other answers (`Runner.together`); its row is for `advance` then."""
        if self._output is None or self.finish is not None:
            return None
        stretch = self._steps.beside(most=self.request.max_tokens - len(self.token_ids))
        return None if stretch is None else (stretch, self.token_ids[-1])

    def advance(self, row: Row | None = None) -> str:
        """Make the next token, the first one by reading what is left of the prompt; the text that became certain, maybe
        none. `row`: the step was made already. UsageError where the answer is complete."""
        if self.finish is not None:
            raise UsageError("this answer has been made already")
        started = time.perf_counter()
        if self._output is None:
            self._output = self._steps.begin(self.prompt, most=self.request.max_tokens - 1)
        elif row is not None:
            self._output = self._steps.took(self.token_ids[-1], row)
        else:
            most = self.request.max_tokens - len(self.token_ids) - 1
            self._output = self._steps.next(self.token_ids[-1], most=most)
        piece = self._take(self._output)
        self.seconds += time.perf_counter() - started
        self.first_token_seconds = self.first_token_seconds or self.seconds
        if piece:
            self._parts.append(piece)
        return piece

    def close(self) -> None:
        """Let the state hold nothing but the prompt and the answer; closing twice is fine."""
        if self._output is not None:
            self._steps.close()

    def move(self, state: SequenceState) -> None:
        """Go on with `state`, which holds what the one before held, behind a `close`."""
        self.state = state
        self._steps.move(state)

    def _take(self, output: StepOutput) -> str:
        """Choose the next token and return the text that it makes certain; sets `finish` at the end."""
        if self._greedy:
            token, output = self._steps.greedy()
        else:
            token, output = self._pick(output)
        if token in self._ends:
            self.finish = Finish.END
            return self._flush()
        if self._look is not None:
            self._look(token, output.logits[-1])
        if self.tally is not None:
            self.tally.add(output.reports, question=not self.token_ids)
        if self._quotation is not None:
            self._quotation.push(token)
            if self._watched and self.tally is None and not self._quotation.watches:
                self._watched = False
                self._steps.change(self._controls)
        self.token_ids.append(token)
        piece = self._scanner.push(self._detokenizer.push([token]))
        if self._scanner.found is not None:
            self.finish = Finish.STOP
        elif len(self.token_ids) == self.request.max_tokens:
            self.finish = Finish.LENGTH
        elif self._steps.length >= self._runner.limit:
            self.finish = Finish.CONTEXT
        return piece if self.finish is None else piece + self._flush()

    def _pick(self, output: StepOutput) -> tuple[int, StepOutput]:
        """A drawn token, or the likeliest of those that may come, and the row it was chosen from."""
        logits = self._allowed(output)
        if self.request.temperature == 0 and self._steps.doubtful(logits):
            output = self._steps.again()
            logits = self._allowed(output)
        return self._sampler.pick(logits), output

    def _allowed(self, output: StepOutput) -> Tensor:
        """Logits [V] of the row, those of tokens that may not come at minus infinity."""
        logits = output.logits[-1]
        return logits if self._quotation is None else self._quotation.allowed(logits, output.reports)

    def _flush(self) -> str:
        """The end of the text: half characters and what may have begun a stop string."""
        return self._scanner.push(self._detokenizer.finish()) + self._scanner.finish()
