"""Packing and opening: tokens, borders, damage, slices."""

import json

import numpy as np
import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.data import pack as pack_module
from octavo.data.mix import Chosen
from octavo.data.pack import PackedText, tokenizer_fingerprint, write_pack
from octavo.data.train_tokenizer import train
from octavo.text.tokenizer import Tokenizer as TextTokenizer

DOCUMENTS = [
    Chosen(
        source=source,
        id=f"{source}/{number}",
        text=f"Document {number} of the {source}: " + f"word {number} " * (9 + number),
    )
    for source in ("books", "manual")
    for number in range(5)
]
TOKENIZER = train((d.text for d in DOCUMENTS), vocab_size=280)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_module, "SHARD_TOKENS", 50)
    write_pack(DOCUMENTS, tokenizer=TOKENIZER, folder=tmp_path / "pack")
    return tmp_path / "pack"


def test_documents_come_back_over_several_shards(folder):
    packed = PackedText(folder)
    assert len(list(folder.glob("tokens-*.xz"))) == -(-len(packed.tokens) // 50) > 2
    assert [(d.source, d.id) for d in packed.documents] == [(d.source, d.id) for d in DOCUMENTS]
    texts = [TOKENIZER.decode(packed.document_tokens(i).tolist()) for i in range(len(DOCUMENTS))]
    assert texts == [d.text for d in DOCUMENTS]
    assert packed.documents[0].start == 0
    assert packed.documents[-1].end == len(packed.tokens)
    assert packed.tokens.dtype == np.uint16
    assert not packed.tokens.flags.writeable
    assert packed.sources == ("books", "manual")


def test_the_summary_counts_what_travels(tmp_path):
    folder = tmp_path / "pack"
    summary = write_pack(DOCUMENTS, tokenizer=TOKENIZER, folder=folder)
    assert summary.text_bytes == sum(len(d.text.encode()) for d in DOCUMENTS)
    assert sum(summary.tokens_by_source.values()) == summary.tokens == len(PackedText(folder).tokens)
    assert summary.packed_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_special_tokens_in_text_stay_text(tmp_path):
    document = Chosen(source="s", id="x", text="a <think> b <｜User｜>")
    write_pack([document], tokenizer=TOKENIZER, folder=tmp_path / "pack")
    packed = PackedText(tmp_path / "pack")
    assert packed.tokens.min() >= 16
    assert TOKENIZER.decode(packed.tokens.tolist()) == document.text


def test_fingerprint_is_that_of_the_text_package(folder, tmp_path):
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    assert (
        PackedText(folder).fingerprint == tokenizer_fingerprint(TOKENIZER) == TextTokenizer.load(tmp_path).fingerprint
    )


def test_slices_repeat_by_seed_stay_in_a_document_and_reach_every_place(folder):
    packed = PackedText(folder)
    assert np.array_equal(packed.slice(20, seed=7), packed.slice(20, seed=7))
    book_end = max(d.end for d in packed.documents if d.source == "books")
    longest = max(d.end - d.start for d in packed.documents)
    seen = set()
    base = packed.tokens.ctypes.data
    for seed in range(400):
        piece = packed.slice(longest - 2, seed=seed)
        first = (piece.ctypes.data - base) // 2
        assert any(d.start <= first and first + len(piece) <= d.end for d in packed.documents)
        seen.add(first)
    places = sum(max(d.end - d.start - (longest - 2) + 1, 0) for d in packed.documents)
    assert len(seen) == places
    for seed in range(50):
        assert (packed.slice(5, seed=seed, source="manual").ctypes.data - base) // 2 >= book_end


def test_slices_that_cannot_be_had_are_refused(folder):
    packed = PackedText(folder)
    with pytest.raises(UsageError, match="100000"):
        packed.slice(100_000, seed=0)
    with pytest.raises(UsageError, match="web"):
        packed.slice(5, seed=0, source="web")


def test_opening_again_reuses_the_unpacked_file_and_a_new_pack_replaces_it(folder):
    first = PackedText(folder).unpack()
    stamp = first.stat().st_mtime_ns
    assert PackedText(folder).unpack().stat().st_mtime_ns == stamp
    write_pack(DOCUMENTS[:3], tokenizer=TOKENIZER, folder=folder)
    assert PackedText(folder).unpack() != first
    assert len(PackedText(folder).documents) == 3


def test_damage_is_named(folder):
    shard = folder / "tokens-01.xz"
    good = shard.read_bytes()
    shard.write_bytes(good[:-20])
    with pytest.raises(ConfigError, match="tokens-01"):
        PackedText(folder)
    shard.write_bytes((folder / "tokens-00.xz").read_bytes())
    with pytest.raises(ConfigError, match="sha256"):
        PackedText(folder)
    assert not list(folder.with_name("pack-unpacked").glob("*"))
    shard.unlink()
    with pytest.raises(ConfigError, match="tokens-01"):
        PackedText(folder)


def test_what_is_no_pack_or_of_another_format_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="not a pack"):
        PackedText(tmp_path / "empty")
    head = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps({**head, "format": 99}))
    with pytest.raises(ConfigError, match="99"):
        PackedText(folder)
    with pytest.raises(ConfigError, match="at least one"):
        write_pack([], tokenizer=TOKENIZER, folder=tmp_path / "none")
