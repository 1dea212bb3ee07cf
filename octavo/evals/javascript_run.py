"""Asking a model for JavaScript, and the report: pass@1, pass@10, the share of answers that run.

Covers: greedy and drawn answers, the unbiased estimate of pass@k, intervals, JSON and the page. Does not cover: the
problems and judging (`javascript`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from octavo.config.errors import UsageError
from octavo.evals.javascript import STOP, Problem, Verdict, code_of, cut, judge
from octavo.evals.report import share, write_texts
from octavo.evals.scoring import wilson
from octavo.sandbox import Sandbox

FORMS = ("complete", "chat")
"""How a model is asked: it goes on with the function's first line, or gets it in a message."""
SAMPLES = 10
TEMPERATURE, TOP_P = 0.8, 0.95
MAX_TOKENS = 256
FORMAT = 1


class Made(Protocol):
    """What a model made, as `octavo.evals.writer` gives it."""

    @property
    def text(self) -> str: ...

    @property
    def finish(self) -> str: ...


class Writer(Protocol):
    """A model that goes on with a text and answers a message, once for each request (options of a generation)."""

    def complete(self, prompt: str, requests: Sequence[dict[str, Any]]) -> Sequence[Made]: ...

    def reply(self, message: str, requests: Sequence[dict[str, Any]]) -> Sequence[Made]: ...


@dataclass(frozen=True, kw_only=True)
class ProblemResult:
    """One problem in one form: the greedy answer, and the drawn ones."""

    problem: Problem
    form: str
    greedy: Verdict
    drawn: tuple[Verdict, ...]

    @property
    def counts(self) -> Counts:
        """What shares are made of."""
        return Counts(
            solved=self.greedy.solved, ran=self.greedy.ran, drawn=len(self.drawn),
            drawn_solved=sum(verdict.solved for verdict in self.drawn), drawn_ran=sum(v.ran for v in self.drawn),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of one problem: whether the greedy answer solved it and ran, and how many of the drawn ones did."""

    solved: bool
    ran: bool
    drawn: int
    drawn_solved: int
    drawn_ran: int


def pass_at(k: int, drawn: int, solved: int) -> float:
    """The chance that at least one of k answers is right, without bias from `solved` of `drawn` answers.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1).
    Raises UsageError unless 1 <= k <= drawn and 0 <= solved <= drawn.
    """
    if not 1 <= k <= drawn or not 0 <= solved <= drawn:
        raise UsageError(f"pass@{k} of {drawn} answers, {solved} right: k must be 1 to {drawn}, as must the right ones")
    return 1.0 - math.comb(drawn - solved, k) / math.comb(drawn, k)


def check_forms(forms: Sequence[str]) -> None:
    """Raise UsageError for a form that there is not."""
    for form in forms:
        if form not in FORMS:
            raise UsageError(f"unknown kind {form!r} of asking for JavaScript: it is one of {', '.join(FORMS)}")


def run_problems(
    writer: Writer, problems: Sequence[Problem], sandbox: Sandbox, *, forms: Sequence[str] = ("complete",),
    samples: int = SAMPLES, max_tokens: int = MAX_TOKENS, progress: Callable[[str, str, int, int], None] | None = None,
) -> Iterator[ProblemResult]:  # fmt: skip
    """Results in order, by form. The greedy answer has temperature 0, the `samples` drawn ones 0.8 and top-p 0.95, each
    its own seed. progress: called with (form, "ask", problems done, all). UsageError for an unknown form."""
    check_forms(forms)
    drawing = {"temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": max_tokens}
    requests = [{"temperature": 0.0, "max_tokens": max_tokens}, *({**drawing, "seed": n} for n in range(samples))]
    for form in forms:
        for number, problem in enumerate(problems, 1):
            greedy, *drawn = (judge(problem, source, sandbox) for source in _ask(writer, problem, form, requests))
            yield ProblemResult(problem=problem, form=form, greedy=greedy, drawn=tuple(drawn))
            if progress is not None:
                progress(form, "ask", number, len(problems))


def _ask(writer: Writer, problem: Problem, form: str, requests: Sequence[dict[str, Any]]) -> list[str]:
    """The whole functions that the model wrote."""
    if form == "chat":
        return [code_of(made.text) for made in writer.reply(problem.question, requests)]
    answers = writer.complete(problem.prompt, [{**options, "stop": STOP} for options in requests])
    return [problem.prompt + cut(made.text + (STOP if made.finish == "stop" else "")) for made in answers]


def summary(results: Sequence[ProblemResult]) -> list[dict[str, Any]]:
    """Shares of every form, over all problems and by group."""
    rows = []
    for form in dict.fromkeys(result.form for result in results):
        asked = [result for result in results if result.form == form]
        groups = list(dict.fromkeys(result.problem.group for result in asked))
        for group in ["all", *groups] if len(groups) > 1 else groups:
            rows.append(_row(form, group, [r for r in asked if group in ("all", r.problem.group)]))
    return rows


def _row(form: str, group: str, results: list[ProblemResult]) -> dict[str, Any]:
    return {"form": form, "group": group, "problems": len(results), **shares([result.counts for result in results])}


def shares(counts: Sequence[Counts]) -> dict[str, dict[str, Any]]:
    """pass@k and the share that runs, each with its interval, of problems with one number of drawn answers."""
    found = {
        "pass@1": share(sum(one.solved for one in counts), len(counts)),
        "runs": share(sum(one.ran for one in counts), len(counts)),
    }
    samples = counts[0].drawn
    if samples:
        for k in sorted({1, samples}):
            found[f"drawn pass@{k}"] = _mean([pass_at(k, samples, one.drawn_solved) for one in counts])
        found["drawn runs"] = _mean([one.drawn_ran / samples for one in counts])
    return found


def _mean(chances: Sequence[float]) -> dict[str, Any]:
    """Mean over problems, with its interval."""
    low, high = wilson(sum(chances), len(chances))
    return {"asked": len(chances), "share": sum(chances) / len(chances), "low": low, "high": high}


def to_json(results: Sequence[ProblemResult], *, about: dict[str, Any] | None = None) -> str:
    """Shares, and every answer with what came of it."""
    answers = [
        {"id": r.problem.id, "form": r.form, "group": r.problem.group, "greedy": asdict(r.greedy),
         "drawn": [asdict(verdict) for verdict in r.drawn]}
        for r in results
    ]  # fmt: skip
    document = {"format": FORMAT, "about": about or {}, "shares": summary(results), "answers": answers}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def to_markdown(results: Sequence[ProblemResult]) -> str:
    """A table of one line for each form and group."""
    rows = summary(results)
    names = [name for name in rows[0] if name not in ("form", "group", "problems")] if rows else []
    lines = ["| " + " | ".join(["form", "problems", "number", *(f"{name} (95 %)" for name in names)]) + " |"]
    lines.append("|" + "---|" * (len(names) + 3))
    for row in rows:
        cells = [f"{row[n]['share']:.3f} ({row[n]['low']:.3f}-{row[n]['high']:.3f})" for n in names]
        lines.append("| " + " | ".join([row["form"], row["group"], str(row["problems"]), *cells]) + " |")
    return "\n".join(lines) + "\n"


def write(results: Sequence[ProblemResult], folder: Path, *, about: dict[str, Any] | None = None) -> None:
    """Write `javascript.json` and `javascript.md` into `folder`, each whole or not at all."""
    texts = {"javascript.json": to_json(results, about=about), "javascript.md": to_markdown(results)}
    write_texts(folder, texts)
