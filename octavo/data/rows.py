"""Training rows: real text with planted statements, and questions asked later in the same row.

Covers: one row as a pure function of its draw: tokens, loss weights, spans for diagnostics. Does not cover: batches,
position skips (octavo.data.positions), the tasks themselves (octavo.data.tasks).

A row is BOS, text with statements between its sentences, and blocks <User> question <Assistant> </think> answer <EOS>
after which the text goes on. An answer is a copy of tokens that stand earlier in the row, so it begins with a space
where its source does; answers that are put together of several, and numbers, begin with a space always. A share of the
rows may be BOS and text alone, or whole documents of the pack, each between BOS and EOS, none of which sees another;
another share are lessons (octavo.data.lessons), packed likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from octavo.config.errors import LimitError
from octavo.data import ground as grounds
from octavo.data import works
from octavo.data.bundle import bundle
from octavo.data.ground import Encode
from octavo.data.plan import Ask, Mix, Plan, Planner
from octavo.data.prose import TextSource
from octavo.data.row import Row
from octavo.data.shares import LESSON_KINDS, LINKED

__all__ = ["Encode", "Mix", "Row", "make_row"]
MIN_LENGTH = 256
KINDS = ("fact", "quotation", "speaker", "chapter", "definition", "key_value", *LINKED, *LESSON_KINDS, "work")
_BOS, _EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
_USER, _ASSISTANT, _ANSWER = "<｜User｜>", "<｜Assistant｜>", "</think>"


@dataclass(slots=True)
class _Part:
    """Tokens put in before ground token `at`; parts at one place keep their order."""

    at: int
    tokens: np.ndarray
    weight: np.ndarray
    answer: int = 0  # of a question: where its answer begins
    ask: Ask | None = None


def make_row(rng: np.random.Generator, text: TextSource, encode: Encode, length: int, mix: Mix) -> Row:
    """A row of `length` tokens, the same for the same state of `rng`. Raises LimitError if it is under 256 tokens."""
    if length < MIN_LENGTH:
        raise LimitError(f"row length {length} is under {MIN_LENGTH} tokens")
    draw = Random(int(rng.integers(1 << 62)))
    if mix.lessons and draw.random() < mix.lessons:
        shelf = text.shelf(encode)
        return bundle(lambda: shelf.row(draw, mix.lesson_kinds), length)
    if mix.plain and draw.random() < mix.plain:
        if mix.documents and draw.random() < mix.documents:
            return _documents(draw, text, length, mix)
        return _plain(grounds.plain(draw, text, length - 1), mix.plain_weight)
    plan = Planner(draw, _ground(draw, text, encode, length, mix), length, mix).make()
    inserts, offsets, questions, answers = _encoded(plan, encode)
    parts = _parts(plan, inserts, offsets, questions, answers, mix, text.vocabulary.special)
    return _assembled(plan, *_fitted(draw, plan, parts, length), offsets, length, mix, text.vocabulary.special[_BOS])


def _ground(draw: Random, text: TextSource, encode: Encode, length: int, mix: Mix) -> grounds.Ground:
    """One kind of ground: program text, several works, a play or prose."""
    if mix.code and draw.random() < mix.code:
        return grounds.code(draw, text, length)
    is_works = mix.work > 0 and draw.random() < mix.work
    is_play = draw.random() < mix.play_rows
    if is_works:
        return works.several(draw, text, encode, length, plays=is_play)
    return grounds.play(draw, text, encode, length) if is_play else grounds.prose(draw, text, length)


def _documents(draw: Random, text: TextSource, length: int, mix: Mix) -> Row:
    """A row of whole documents; or a run of one that fills a row alone, as often as those have a share of the tokens.
    """
    special, most, weight, names = text.vocabulary.special, length - 2, mix.plain_weight, mix.sources
    if draw.random() < text.share_beyond(most, names):
        return _alone(np.concatenate([[special[_BOS]], text.run_within(draw, length - 1, names)]), weight)

    def one() -> Row:
        return _alone(np.concatenate([[special[_BOS]], text.document(draw, most, names), [special[_EOS]]]), weight)

    return bundle(one, length)


def _alone(tokens: np.ndarray, weight: float) -> Row:
    """A document without questions."""
    weights = np.full(len(tokens), weight, dtype=np.float32)
    weights[0] = 0.0
    return Row(tokens=tokens.astype(np.uint16), weight=weights, span=np.empty((0, 4), dtype=np.int32), kinds=())


def _plain(ground: grounds.Ground, weight: float) -> Row:
    """A row of text alone."""
    return _alone(np.concatenate([[ground.source.vocabulary.special[_BOS]], ground.tokens]), weight)


def _encoded(
    plan: Plan, encode: Encode
) -> tuple[list[list[list[int]]], list[np.ndarray], list[list[int]], list[list[int]]]:
    """Tokens of every insert's pieces, where each piece begins (int64 [pieces + 1]), tokens of every question, and of
    every answer that is given as text (empty for the others)."""
    texts = [piece for insert in plan.inserts for piece in insert.pieces]
    asks = plan.asks
    found = encode([*texts, *(ask.question for ask in asks), *(ask.answer_text or "" for ask in asks)])
    inserts, offsets, place = [], [], 0
    for insert in plan.inserts:
        pieces = found[place : place + len(insert.pieces)]
        place += len(insert.pieces)
        inserts.append(pieces)
        offsets.append(np.cumsum([0, *map(len, pieces)]))
    return inserts, offsets, found[place : place + len(asks)], found[place + len(asks) :]


def _parts(
    plan: Plan, inserts: list[list[list[int]]], offsets: list[np.ndarray], questions: list[list[int]],
    answers: list[list[int]], mix: Mix, special: dict[str, int],
) -> list[_Part]:  # fmt: skip
    """Everything that is put in: first the inserts in the plan's order, then the questions."""
    parts = []
    for insert, pieces, ends in zip(plan.inserts, inserts, offsets, strict=True):
        tail = [int(plan.ground.tokens[insert.at - 1])] if insert.newline else []
        tokens = np.array([*(i for ids in pieces for i in ids), *tail], dtype=np.uint16)
        weight = np.full(len(tokens), mix.text_weight, dtype=np.float32)
        for index, kept in enumerate(insert.kept):
            if not kept:
                weight[ends[index] : ends[index + 1]] = 0.0
        parts.append(_Part(insert.at, tokens, weight))
    user, assistant, answer_mark, eos = (special[name] for name in (_USER, _ASSISTANT, _ANSWER, _EOS))
    for ask, ids, written in zip(plan.asks, questions, answers, strict=True):
        if ask.answer_text is not None:
            answer = written
        elif ask.answer_range is not None:
            answer = plan.ground.tokens[slice(*ask.answer_range)].tolist()
        else:
            assert ask.insert is not None
            answer = inserts[ask.insert][ask.answer]
        head = [user, *ids, assistant, answer_mark]
        tokens = np.array([*head, *answer, eos], dtype=np.uint16)
        weight = np.zeros(len(tokens), dtype=np.float32)
        weight[len(head) :] = 1.0
        parts.append(_Part(ask.at, tokens, weight, answer=len(head), ask=ask))
    return parts


def _fitted(draw: Random, plan: Plan, parts: list[_Part], length: int) -> tuple[list[_Part], int]:
    """The parts that fit and the number of ground tokens that fill the row with them.

    Questions are dropped, drawn at random, until a quarter of the row is ground, and where their source was cut off;
    so is what would stand behind the cut.
    """
    total = sum(len(part.tokens) for part in parts)
    most = int(0.75 * length) - 1
    order = [i for i, part in enumerate(parts) if part.ask is not None]
    draw.shuffle(order)
    order += [i for i in reversed(range(len(parts))) if parts[i].ask is None]
    dropped: set[int] = set()
    while total > most and order:
        index = order.pop(0)
        dropped.add(index)
        total -= len(parts[index].tokens)
        for other, part in enumerate(parts):  # a question without its statement makes no sense
            if part.ask is not None and part.ask.missing({index}) and other not in dropped:
                dropped.add(other)
                total -= len(part.tokens)
    while True:
        used = length - 1 - total
        late = {i for i, p in enumerate(parts) if i not in dropped and (p.ask.need if p.ask else p.at) > used}
        late |= {i for i, p in enumerate(parts) if i not in dropped and p.ask is not None and p.ask.missing(late)}
        if not late:
            break
        dropped.update(late)
        total -= sum(len(parts[i].tokens) for i in late)
    for index in dropped:
        parts[index].tokens = parts[index].tokens[:0]
        parts[index].weight = parts[index].weight[:0]
    return parts, used


def _assembled(
    plan: Plan, parts: list[_Part], used: int, offsets: list[np.ndarray], length: int, mix: Mix, bos: int
) -> Row:
    """The finished row of `used` ground tokens and all parts that are not empty."""
    at = np.minimum(np.array([part.at for part in parts], dtype=np.int64), used)
    sizes = np.array([len(part.tokens) for part in parts], dtype=np.int64)
    order = np.argsort(at, kind="stable")
    sums = np.concatenate([[0], np.cumsum(sizes[order])])
    begins = np.empty(len(parts), dtype=np.int64)
    begins[order] = 1 + at[order] + sums[:-1]
    sorted_at = at[order]
    # A ground token comes after everything that is put in at its place or before.
    shift = sums[np.searchsorted(sorted_at, np.arange(used), side="right")]
    where = 1 + np.arange(used) + shift
    tokens = np.empty(length, dtype=np.uint16)
    weight = np.empty(length, dtype=np.float32)
    tokens[0], weight[0] = bos, 0.0
    tokens[where] = plan.ground.tokens[:used]
    weight[where] = mix.text_weight
    spans, kinds = [], []
    for part, begin, size in zip(parts, begins.tolist(), sizes.tolist(), strict=True):
        tokens[begin : begin + size] = part.tokens
        weight[begin : begin + size] = part.weight
        ask = part.ask
        if ask is None or size == 0:
            continue
        if ask.source is not None:
            first, last = int(where[ask.source[0]]), int(where[ask.source[1] - 1]) + 1
        else:
            assert ask.insert is not None
            base, ends = int(begins[ask.insert]), offsets[ask.insert]
            first, last = base + int(ends[ask.source_pieces[0]]), base + int(ends[ask.source_pieces[1]])
        spans.append((begin, begin + part.answer, first, last))
        kinds.append(ask.kind)
    span = np.array(spans, dtype=np.int32).reshape(-1, 4)
    turn = np.argsort(span[:, 0], kind="stable")
    return Row(tokens=tokens, weight=weight, span=span[turn], kinds=tuple(kinds[i] for i in turn.tolist()))
