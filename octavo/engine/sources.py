"""The places of a document that an answer came from.

Covers: from a weight for each token to the best spans of characters. Does not cover: where the weights come from
(`attention`), sentence borders (`sentences`). Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octavo.engine.answer import Source
from octavo.engine.attention import MassRule
from octavo.engine.sentences import sentence_around
from octavo.engine.texts import TextEntry, Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRule:
    """How spans are chosen; the defaults are tuned on the shipped weights.

    mass: what attention counts. smooth: width in tokens of the triangle that weights are averaged over before peaks are
    sought. core: a span begins as the run of tokens around a peak that keep at least this share of its height. widest:
    most tokens of such a run. reach: most characters by which it grows to a sentence border on each side. count: most
    spans. least: a span with less than this part of the largest share is left out (the first one is always given).
    """

    mass: MassRule = field(default_factory=MassRule)
    smooth: int = 12
    core: float = 0.5
    widest: int = 64
    reach: int = 400
    count: int = 3
    least: float = 0.1


@dataclass(frozen=True, slots=True)
class _Span:
    """Characters of one entry, and the tokens that lie in them."""

    entry: TextEntry
    start: int
    end: int
    first: int
    stop: int


def find_sources(texts: Texts, weights_T: np.ndarray, rule: SourceRule) -> tuple[Source, ...]:
    """The best spans, the highest peak first; weights [T] of the document's tokens, all >= 0.

    A source's weight is its share of all weight on the texts. No sources where no token has weight.
    """
    inside = np.zeros(len(weights_T), dtype=bool)
    for entry in texts.entries:
        inside[entry.first_token : entry.stop_token] = True
    weights_T = np.where(inside, weights_T, 0.0)
    total = float(weights_T.sum())
    if not total > 0:
        return ()
    left, height = weights_T.copy(), np.where(inside, _smoothed(weights_T, rule.smooth), 0.0)
    spans: list[_Span] = []
    for _ in range(4 * rule.count):  # a peak whose span meets an earlier one widens it and leaves room for another
        peak = int(height.argmax())
        if height[peak] <= 0 or len(spans) == rule.count:
            break
        span = _span(texts, height, peak, rule)
        _take_away(left, height, span, inside, rule.smooth)
        height[peak] = 0
        spans = _merged(spans, span)
    shares = [float(weights_T[span.first : span.stop].sum()) / total for span in spans]
    lowest = rule.least * max(shares)
    return tuple(
        _source(texts, span, share)
        for rank, (span, share) in enumerate(zip(spans, shares, strict=True))
        if rank == 0 or share >= lowest
    )


def _smoothed(weights_T: np.ndarray, width: int) -> np.ndarray:
    """Average over a triangle of `width` tokens on each side, [T]."""
    if width <= 1:
        return weights_T.copy()
    side = np.arange(1, width + 1)
    kernel = np.concatenate((side, side[-2::-1])) / width**2
    return np.convolve(weights_T, kernel)[width - 1 : width - 1 + len(weights_T)]


def _take_away(left: np.ndarray, height: np.ndarray, span: _Span, inside: np.ndarray, width: int) -> None:
    """Set the weights of a span to 0 and its height too; around it the height becomes that of what is left."""
    left[span.first : span.stop] = 0
    low, high = max(0, span.first - width), span.stop + width
    from_, to = max(0, low - width), high + width
    again = _smoothed(left[from_:to], width)[low - from_ : high - from_]
    height[low:high] = np.where(inside[low:high], again, 0.0)
    height[span.first : span.stop] = 0


def _span(texts: Texts, height: np.ndarray, peak: int, rule: SourceRule) -> _Span:
    """The span around a peak, widened to sentences."""
    entry = texts.entry_at(peak)
    assert entry is not None, "a token outside all texts has no height"
    lowest = height[peak] * rule.core
    low, high = max(entry.first_token, peak - rule.widest // 2), min(entry.stop_token, peak + rule.widest // 2 + 1)
    first, stop = peak, peak + 1
    while first > low and height[first - 1] >= lowest:
        first -= 1
    while stop < high and height[stop] >= lowest:
        stop += 1
    start, end = _widened(texts, entry, first, stop, rule.reach)
    starts = texts.starts(entry)
    inner = int(np.searchsorted(starts[:-1], start, side="left"))
    outer = int(np.searchsorted(starts[:-1], end, side="left"))
    place = peak - entry.first_token  # in the span even where that is the sentence beside it
    return _Span(
        entry, start, end, entry.first_token + min(inner, place), entry.first_token + max(outer, place + 1)
    )


def _widened(texts: Texts, entry: TextEntry, first: int, stop: int, reach: int) -> tuple[int, int]:
    """Characters of an entry: tokens first .. stop - 1 and the rest of their sentences."""
    tokens = 4 * reach + 8  # a character has at most four bytes, a token at least one
    text, base = texts.passage(entry, first - tokens, stop + tokens)
    starts = texts.starts(entry)
    start, end = int(starts[first - entry.first_token]) - base, int(starts[stop - entry.first_token]) - base
    start, end = sentence_around(text, start, max(end, start + 1), reach=reach)
    return base + start, base + end


def _merged(spans: list[_Span], new: _Span) -> list[_Span]:
    """`new` joined to the spans it overlaps, at the place of the first of them, else at the end."""
    touching = [span for span in spans if span.entry == new.entry and span.start <= new.end and new.start <= span.end]
    if not touching:
        return [*spans, new]
    every = [*touching, new]
    joined = _Span(
        new.entry,
        min(span.start for span in every),
        max(span.end for span in every),
        min(span.first for span in every),
        max(span.stop for span in every),
    )
    place = spans.index(touching[0])
    rest = [span for span in spans if span not in touching]
    return [*rest[:place], joined, *rest[place:]]


def _source(texts: Texts, span: _Span, share: float) -> Source:
    text, base = texts.passage(span.entry, span.first - 8, span.stop + 8)
    return Source(
        file=span.entry.name,
        start=span.start,
        end=span.end,
        text=text[span.start - base : span.end - base],
        weight=share,
    )
