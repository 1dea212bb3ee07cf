"""Which tokens an entry kept: against gates computed one by one, and against the stored entry itself."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import pytest
import torch

from octavo.cache.pool import PagedRows
from octavo.config.errors import LimitError, UsageError
from octavo.engine.document import Document
from octavo.engine.fold import MAX_FOLD_TOKENS, fold, fold_at, token_at
from octavo.engine.reread import Rereading
from octavo.engine.texts import Text
from octavo.kernels.rope import norm_rotate
from tests.support.tiny_llm import STORY, tiny_llm


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    llm = tiny_llm(tmp_path_factory.mktemp("model"), dtype="float64")
    return llm.read(
        [Text(name="a.txt", text=STORY * 12), Text(name="b.txt", text="Rain came late – in the évening. " * 9)]
    )


def raw_rows(document: Document) -> dict[int, torch.Tensor]:
    """Raw rows of the whole document, read from its beginning."""
    with closing(document.fork()) as state:
        past = Rereading(state, begin=0, wanted=0)
        past.read(document.llm.model, len(document), chunk=512)
        return {layer: rows for layer, (_, rows) in past.kept.items()}


def slow_entry(rows: torch.Tensor, entry: int, ratio: int) -> tuple[list[float], torch.Tensor]:
    """Mean gates and the pooled value of an entry, channel by channel, in plain numbers."""
    both = rows.shape[1] // 2
    width = both // 2 if ratio == 4 else both
    picks = [(token, width if ratio == 4 else 0) for token in range(entry * ratio, (entry + 1) * ratio)]
    if ratio == 4 and entry:
        picks = [(token, 0) for token in range((entry - 1) * 4, entry * 4)] + picks
    shares, pooled = [0.0] * len(picks), []
    for channel in range(width):
        weights = [math.exp(float(rows[token, both + at + channel])) for token, at in picks]
        values = [float(rows[token, at + channel]) for token, at in picks]
        pooled.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
        shares = [share + w / sum(weights) / width for share, w in zip(shares, weights, strict=True)]
    return shares, torch.tensor(pooled, dtype=torch.float64)


def test_shares_are_the_gates_and_make_the_stored_entry(document: Document) -> None:
    rows = raw_rows(document)
    model, state = document.llm.model, document.state
    found = fold(document, 700, 716)
    assert {(e.layer, e.ratio) for e in found} == {(1, 4), (2, 128), (3, 4), (4, 128)}
    for entry in found:
        shares, pooled = slow_entry(rows[entry.layer], entry.entry, entry.ratio)
        assert [token.share for token in entry.tokens] == pytest.approx(shares, abs=1e-9)
        assert sum(token.share for token in entry.tokens) == pytest.approx(1)
        maker = model.layers[entry.layer].attn.compressor
        positions = torch.tensor([[entry.entry * entry.ratio]])
        table = model.rotary.table(positions, entry.ratio, torch.float64)
        made = norm_rotate(pooled.view(1, 1, -1), maker.norm.weight, *table, eps=maker.norm.eps)
        stored = PagedRows(state.pool, state.runs, (entry.layer, "main"), entry.entry + 1)
        torch.testing.assert_close(made[0], stored.tile(entry.entry, entry.entry + 1)[0], rtol=1e-7, atol=1e-7)


def test_entries_are_those_of_the_stretch(document: Document) -> None:
    found = fold(document, 129, 137, layer=1)
    assert [(e.entry, e.first_token, len(e.tokens)) for e in found] == [(32, 124, 8), (33, 128, 8), (34, 132, 8)]
    assert [(e.entry, e.first_token, len(e.tokens)) for e in fold(document, 120, 130, layer=2)] == [
        (0, 0, 128),
        (1, 128, 128),
    ]


def test_first_entry_has_no_tokens_before_and_names_the_mark(document: Document) -> None:
    (entry,) = fold(document, 0, 1, layer=1)
    assert (entry.first_token, len(entry.tokens)) == (0, 4)
    assert (entry.tokens[0].file, entry.tokens[0].start_char, entry.tokens[0].end_char) == (None, 0, 0)
    assert entry.tokens[1].file == "a.txt"
    assert entry.tokens[1].start_char == 0
    assert sum(token.share for token in entry.tokens) == pytest.approx(1)


def test_open_groups_are_not_folded(document: Document) -> None:
    length = len(document)
    assert length % 128, "the last group must be open"
    assert fold(document, length - 1, length, layer=2) == ()
    assert all((e.entry + 1) * e.ratio <= length for e in fold(document, length - 20, length))


def test_texts_of_tokens_are_the_files_characters(document: Document) -> None:
    originals = {entry.name: document.texts.text(entry) for entry in document.texts.entries}
    start = document.texts.entries[1].first_token
    tokens = [token for entry in fold(document, start, start + 90, layer=1) for token in entry.tokens]
    assert {token.file for token in tokens} >= {"a.txt", "b.txt", None}
    for token in tokens:
        if token.file is not None:
            assert token.text == originals[token.file][token.start_char : token.end_char]
    assert any("é" in token.text for token in tokens)


@pytest.mark.parametrize("char", [0, 1, 57, 400])
def test_the_token_of_a_character(document: Document, char: int) -> None:
    for file in (0, "a.txt"):
        entry = document.texts.entries[0]
        token = token_at(document.texts, char, file)
        starts = document.texts.starts(entry)
        assert starts[token - entry.first_token] <= char < starts[token - entry.first_token + 1]
    assert (
        token_at(document.texts, 3, "b.txt") == token_at(document.texts, 3, 1) >= document.texts.entries[1].first_token
    )
    around = fold_at(document, token, layer=3)
    assert any(t.token == token for e in around for t in e.tokens)


def test_bad_places_are_refused(document: Document) -> None:
    length = len(document)
    for start, stop in [(5, 5), (-1, 3), (0, length + 1)]:
        with pytest.raises(LimitError, match=f"tokens {start} to {stop}; they must lie within 0 to {length}"):
            fold(document, start, stop)
    with pytest.raises(LimitError, match=f"fold: token {length}; this document's are 0 to {length - 1}"):
        fold_at(document, length)
    for layer in (0, 5, -1):
        with pytest.raises(UsageError, match=f"layer {layer} has no entries; layers 1, 2, 3, 4 have"):
            fold(document, 0, 8, layer=layer)
    with pytest.raises(UsageError, match=r"no text 'c.txt'; it has a.txt, b.txt"):
        token_at(document.texts, 0, "c.txt")
    with pytest.raises(LimitError, match=f"character {len(STORY * 12)}; what was read of a.txt has 0 to"):
        token_at(document.texts, len(STORY * 12))


def test_a_stretch_has_a_limit(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, max_position_embeddings=8192)
    with llm.read(STORY * 70) as long, pytest.raises(LimitError, match=f"looks into at most {MAX_FOLD_TOKENS:,}"):
        fold(long, 0, MAX_FOLD_TOKENS + 1)


def test_the_plain_form(document: Document) -> None:
    (entry,) = fold(document, 40, 41, layer=1)
    plain = entry.to_dict()
    assert (plain["layer"], plain["ratio"], plain["entry"]) == (1, 4, 10)
    assert set(plain["tokens"][0]) == {"token", "text", "file", "start_char", "end_char", "share"}


def test_a_closed_document_is_refused(tmp_path: Path) -> None:
    document = tiny_llm(tmp_path).read(STORY)
    document.close()
    with pytest.raises(UsageError, match="the document is closed"):
        fold(document, 0, 8)
