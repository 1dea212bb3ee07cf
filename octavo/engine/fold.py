"""What became of a place when it was folded: which tokens each compressed entry was pooled from, and by how much.

Covers: the gates of the entries of a stretch of a read document, computed again exactly; the way from a character to
its token; the plain form for JSON. Does not cover: how the stretch is read again (`reread`), printing.

An entry of ratio 4 (CSA) is pooled from its own four tokens and the four before, one of ratio 128 (HCA) from its 128.
The gate is a softmax over these tokens for every channel; a token's share is its mean over the channels, so that the
shares of an entry sum to 1. Index keys are pooled by gates of their own and are not told about.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.config.errors import LimitError, UsageError
from octavo.config.model import CSA_RATIO

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.engine.document import Document
    from octavo.engine.texts import Texts

MAX_FOLD_TOKENS = 4096
"""Longest stretch that one call looks into."""
_AROUND = 8  # tokens to either side of a place: its entry of four tokens and two on either side
_CHUNK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldToken:
    """A token that an entry was pooled from, and its share of the entry.

    text: characters start_char .. end_char - 1 of `file`; of a token that is part of a character, that character. Both
    are 0, and there is no file, for the document's begin mark and the blank lines between texts.
    """

    token: int
    text: str
    file: str | None
    start_char: int
    end_char: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldEntry:
    """Entry number `entry` of a layer, pooled from `tokens`, the first of which has the number `first_token`."""

    layer: int
    ratio: int
    entry: int
    first_token: int
    tokens: tuple[FoldToken, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plain form."""
        return asdict(self)


def fold(document: Document, start_token: int, stop_token: int, layer: int | None = None) -> tuple[FoldEntry, ...]:
    """The entries whose own tokens meet start_token .. stop_token - 1, by layer, then number; only complete ones.

    `layer`: of this one only; it must have entries. Other threads may use the model and ask the document meanwhile.
    Raises LimitError for a stretch that is empty, too long or outside the document, UsageError for a layer without
    entries and for a closed document.
    """
    from octavo.engine.reread import Rereading, first_read

    length, llm = len(document), document.llm
    if not document.state.pages:
        raise UsageError("the document is closed")
    if not 0 <= start_token < stop_token <= length:
        raise LimitError(
            f"fold: tokens {start_token} to {stop_token}; they must lie within 0 to {length} and not be none"
        )
    if stop_token - start_token > MAX_FOLD_TOKENS:
        raise LimitError(f"fold: {stop_token - start_token:,} tokens; one call looks into at most {MAX_FOLD_TOKENS:,}")
    spans = _spans(llm.config.layer_ratios, start_token, stop_token, length, layer)
    if not spans:
        return ()
    wanted = min(first * ratio - (ratio if ratio == CSA_RATIO else 0) for _, ratio, first, _ in spans)
    stop = max(after * ratio for _, ratio, _, after in spans)
    wanted = max(wanted, 0)
    past = Rereading(document.state, begin=first_read(document.state.layout, wanted), wanted=wanted)
    past.read(llm.model, stop, chunk=_CHUNK)
    kept = past.kept
    texts, made = document.texts, []
    for number, ratio, first, after in spans:
        start, rows = kept[number]
        for entry in range(first, after):
            shares, begin = _shares(rows, start, entry, ratio)
            tokens = tuple(_token(texts, begin + i, share) for i, share in enumerate(shares.tolist()))
            made.append(FoldEntry(layer=number, ratio=ratio, entry=entry, first_token=begin, tokens=tokens))
    return tuple(made)


def fold_at(document: Document, token: int, layer: int | None = None) -> tuple[FoldEntry, ...]:
    """The entries around one token; see `fold`. LimitError for a token outside the document."""
    if not 0 <= token < len(document):
        raise LimitError(f"fold: token {token}; this document's are 0 to {len(document) - 1}")
    return fold(document, max(token - _AROUND, 0), min(token + _AROUND, len(document)), layer)


def token_at(texts: Texts, char: int, file: str | int = 0) -> int:
    """The token that holds character `char` of a text, given by its name or its number.

    Raises UsageError for a text that the document does not hold, LimitError for a character outside what was read.
    """
    entry = next((e for number, e in enumerate(texts.entries) if file in (number, e.name)), None)
    if entry is None:
        names = ", ".join(e.name for e in texts.entries) or "none"
        raise UsageError(f"fold: the document has no text {file!r}; it has {names}")
    starts = texts.starts(entry)
    if not 0 <= char < starts[-1]:
        raise LimitError(f"fold: character {char}; what was read of {entry.name} has 0 to {int(starts[-1]) - 1}")
    return entry.first_token + int(np.searchsorted(starts[:-1], char, side="right")) - 1


def _spans(
    ratios: tuple[int, ...], start: int, stop: int, length: int, layer: int | None
) -> list[tuple[int, int, int, int]]:
    """Layer, ratio, first entry and the one after the last, where there is one."""
    if layer is not None and not (0 <= layer < len(ratios) and ratios[layer]):
        have = ", ".join(str(number) for number, ratio in enumerate(ratios) if ratio)
        raise UsageError(f"fold: layer {layer} has no entries; layers {have} have")
    found = []
    for number, ratio in enumerate(ratios):
        if ratio and layer in (None, number):
            first, after = start // ratio, min(-(-stop // ratio), length // ratio)
            if first < after:
                found.append((number, ratio, first, after))
    return found


def _shares(rows: Tensor, start: int, entry: int, ratio: int) -> tuple[Tensor, int]:
    """Mean gate [n] FP64 of an entry's tokens, and the number of the first; `rows` [., 2 w] begin at token `start`."""
    import torch

    own = entry * ratio
    scores = rows[:, rows.shape[1] // 2 :]
    mine = scores[own - start : own - start + ratio]
    if ratio != CSA_RATIO:
        return mine.double().softmax(dim=0).mean(dim=1).cpu(), own
    width = mine.shape[1] // 2
    mine = mine[:, width:]
    if entry == 0:
        return mine.double().softmax(dim=0).mean(dim=1).cpu(), own
    before = scores[own - start - ratio : own - start, :width]
    return torch.cat((before, mine)).double().softmax(dim=0).mean(dim=1).cpu(), own - ratio


def _token(texts: Texts, token: int, share: float) -> FoldToken:
    entry = texts.entry_at(token)
    if entry is None:
        text = texts.tokenizer.token_bytes(int(texts.ids[token])).decode("utf-8", "replace")
        return FoldToken(token=token, text=text, file=None, start_char=0, end_char=0, share=share)
    text, start = texts.passage(entry, token, token + 1)
    return FoldToken(token=token, text=text, file=entry.name, start_char=start, end_char=start + len(text), share=share)
