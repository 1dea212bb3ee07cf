"""The Python face: loading, research calls, reading, completions, and what each refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import octavo
from octavo.cache.layout import RowFormat
from octavo.config.errors import CheckpointError, ConfigError, DocumentError, LimitError, TextError, UsageError
from octavo.config.levels import Levels
from octavo.engine.answer import Finish
from octavo.engine.llm import LLM, load
from octavo.engine.texts import Text
from tests.support.tiny import tiny_config, tiny_engram, write_tiny_model
from tests.support.tiny_llm import STORY, tiny_llm
from tests.support.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), engram=tiny_engram())


IDS = torch.randint(16, 380, (260,), generator=torch.Generator().manual_seed(1))


# -- loading ---------------------------------------------------------------------------------------------------------


def test_public_load_gives_a_working_model(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(), 1)
    model = octavo.load(str(folder))
    assert model.name == tmp_path.name
    assert model.config == tiny_config()
    assert model.logits([1, 2, 3]).shape == (3, model.config.vocab_size)
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in model.model.parameters())


def test_shipped_name_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_model(tmp_path / "octavo-tiny", tiny_config(), 1)
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(tmp_path))
    assert octavo.load("octavo-tiny").name == "octavo-tiny"


def test_bfloat16_computes_nearly_the_same(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(), 1)
    wide, narrow = load(folder), load(folder, "bfloat16")
    assert narrow.model.embed.weight.dtype == torch.bfloat16
    assert narrow.pool.layout.main is RowFormat.BF16
    expected, found = wide.logits(IDS[:40]), narrow.logits(IDS[:40], chunk=16)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected, dim=1).median() > 0.98
    assert not torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("engram", [None, "v1", "v41"])
def test_float64_is_exact_from_end_to_end(tmp_path: Path, engram: str | None) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(engram=engram and tiny_engram(engram)), 1)
    wide, exact = load(folder), load(folder, "float64")
    assert (exact.pool.layout.main, exact.pool.layout.index) == (RowFormat.FP64, RowFormat.FP64)
    whole = exact.logits(IDS)
    assert whole.dtype == torch.float64
    assert torch.allclose(wide.logits(IDS).double(), whole, rtol=0, atol=1e-3)
    for chunk in (31, 129):
        assert torch.allclose(exact.logits(IDS, chunk=chunk), whole, rtol=0, atol=1e-9)
    state = exact.new_state()
    stepped = torch.cat([exact.step(part, state) for part in IDS.split(100)])
    assert torch.allclose(stepped, whole, rtol=0, atol=1e-9)
    assert state.nbytes <= exact.pool.layout.total_bytes(len(IDS))


def test_float64_documents_answer_and_open_only_in_float64(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", tiny_config(), 1)
    exact = load(folder, "float64")
    with exact.read(STORY) as doc:
        expected = doc.ask("Who?", max_tokens=4)
        assert expected.sources
        doc.save(tmp_path / "story.octavo")
    with exact.open(tmp_path / "story.octavo") as doc:
        found = doc.ask("Who?", max_tokens=4)
    assert (found.token_ids, found.sources) == (expected.token_ids, expected.sources)
    with pytest.raises(DocumentError, match="another model"):
        load(folder).open(tmp_path / "story.octavo")


@pytest.mark.parametrize(("main", "index"), [("fp8", "fp4"), ("fp4", "fp4"), ("fp32", "bf16"), (None, "fp8")])
def test_float64_reads_rows_stored_shorter(tmp_path: Path, main: str | None, index: str) -> None:
    config = tiny_config(engram=tiny_engram("v1"))
    exact = load(write_tiny_model(tmp_path, config, 1), "float64", main=main, index=index)
    few, many = exact.logits(IDS, chunk=200), exact.logits(IDS, chunk=31)
    assert torch.allclose(few, many, rtol=0, atol=1e-9)
    state = exact.new_state()
    exact.step(IDS, state)
    layout = exact.pool.layout
    assert state.nbytes <= layout.total_bytes(len(IDS))
    assert sum(tail.conv.nbytes for tail in state.tails if tail.conv is not None) == layout.fixed_bytes.engram


def test_row_formats_of_the_cache_are_a_choice(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(), 1)
    small = load(folder, main="fp8", index="fp4")
    assert (small.pool.layout.main, small.pool.layout.index) == (RowFormat.FP8, RowFormat.FP4)
    exact = load(folder)
    with small.read(STORY) as folded, exact.read(STORY) as plain:
        assert folded.nbytes < plain.nbytes
        assert folded.ask("Who?", max_tokens=2).token_ids


def test_the_index_is_a_choice(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(), 1)
    assert load(folder).config.levels is None
    chosen = load(folder, index_levels=2, index_block_tokens=8, index_blocks=3, index_from_tokens=32)
    assert chosen.config.levels == Levels(8, 3, 32)
    with pytest.raises(ConfigError, match="index_from_tokens is 20; it must be a multiple of 16"):
        load(folder, index_levels=2, index_from_tokens=20)


def test_documents_with_fp4_entries_are_opened_as_they_were_read(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", tiny_config(max_position_embeddings=4096), 1)
    with load(folder, main="fp4").read(STORY * 5) as doc, load(folder, main="fp8").read(STORY * 5) as wider:
        assert doc.nbytes < wider.nbytes
        expected = doc.ask("Who?", max_tokens=4)
        doc.save(tmp_path / "story.octavo")
    with load(folder, main="fp4").open(tmp_path / "story.octavo") as doc:
        found = doc.ask("Who?", max_tokens=4)
    assert (found.token_ids, found.sources) == (expected.token_ids, expected.sources)
    with pytest.raises(DocumentError, match="main = fp4; the cache here has fp8"):
        load(folder, main="fp8").open(tmp_path / "story.octavo")


def test_cache_bytes_are_those_of_the_layout(tmp_path: Path) -> None:
    model = tiny_llm(tmp_path)
    with model.read("word " * 700) as doc:
        assert len(doc) > 512
        assert doc.nbytes <= model.pool.layout.total_bytes(len(doc))
        assert doc.nbytes >= model.pool.layout.paged_bytes(len(doc)) + 4 * len(doc)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float16'; it must be one of float64, float32, bfloat16"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"main": "fp2"}, "row format is 'fp2'"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(), 1)
    with pytest.raises(UsageError, match=message):
        load(folder, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int4"}, "weights is 'int4'; it must be int8 or left out"),
        ({"weights": "int8", "dtype": "float64"}, "need dtype float32 and device cpu; these are float64 and cpu"),
        ({"weights": "int8", "device": "cuda"}, "need dtype float32 and device cpu; these are float32 and cuda"),
    ],
)
def test_what_int8_weights_do_not_go_with_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load("no-such-model", **options)  # type: ignore[arg-type]


def test_int8_weights_answer_and_keep_documents_apart(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", tiny_config(max_position_embeddings=4096), 1)
    wide, small = load(folder), load(folder, weights="int8")
    assert small.pool.layout.main is RowFormat.FP32
    assert small.fingerprint != wide.fingerprint
    with small.read(STORY) as doc:
        expected = doc.ask("Who?", max_tokens=4)
        doc.save(tmp_path / "story.octavo")
    with load(folder, weights="int8").open(tmp_path / "story.octavo") as doc:
        found = doc.ask("Who?", max_tokens=4)
    assert (found.token_ids, found.sources) == (expected.token_ids, expected.sources)
    with pytest.raises(DocumentError, match="another model"):
        wide.open(tmp_path / "story.octavo")


def test_missing_weights_and_tokenizer_are_named(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(), 1)
    (folder / "model.safetensors").rename(folder / "away")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TextError, match=r"tokenizer\.json"):
        load(folder)


def test_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, tiny_config(vocab_size=300), 1)
    tiny_tokenizer(folder, vocab_size=340)
    with pytest.raises(CheckpointError, match="the tokenizer has 340 entries, the model only 300"):
        load(folder)


# -- research --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [31, 129, 1000])
def test_chunks_and_steps_give_the_logits_of_one_pass(llm: LLM, chunk: int) -> None:
    whole = llm.logits(IDS)
    assert torch.allclose(llm.logits(IDS.tolist(), chunk=chunk), whole, atol=1e-5)
    state = llm.new_state()
    stepped = torch.cat([llm.step(part, state) for part in IDS.split(chunk)])
    assert torch.allclose(stepped, whole, atol=1e-5)
    assert state.tokens.tolist() == IDS.tolist()


def test_fork_and_rollback_over_compression_borders(llm: LLM) -> None:
    whole = llm.logits(IDS)
    state = llm.new_state()
    llm.step(IDS[:200], state)
    twin = state.fork()
    llm.step(torch.full((90,), 33), twin)
    assert torch.allclose(llm.step(IDS[200:], state), whole[200:], atol=1e-5)
    twin.rollback(90 + 75)
    assert torch.allclose(llm.step(IDS[125:], twin), whole[125:], atol=1e-5)
    assert state.nbytes > 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], r"shape \[0\]"),
        ([[1, 2]], r"shape \[1, 2\]"),
        ([1.0], "float64; integers"),
        ([True], "bool; integers"),
        ([5, 400], r"ids\[1\] is 400; ids of this model are 0 to 399"),
        ([-1], r"ids\[0\] is -1"),
        (np.zeros(4097, dtype=np.int64), "4,097 ids are more than the context of this model: 4,096"),
    ],
)
def test_ids_are_checked(llm: LLM, ids: object, message: str) -> None:
    state = llm.new_state()
    for call in (lambda: llm.logits(ids), lambda: llm.step(ids, state)):  # type: ignore[arg-type]
        with pytest.raises(LimitError, match=message):
            call()
    assert state.length == 0


def test_what_runs_is_said(llm: LLM) -> None:
    assert llm.path.startswith("plain torch operations: the fused kernels need a GPU")
    assert "; decoding: " in llm.path


@pytest.mark.parametrize("chunk", [0, -4, 2.5, True])
def test_chunk_is_checked(llm: LLM, chunk: object) -> None:
    with pytest.raises(LimitError, match="chunk is"):
        llm.logits([1], chunk=chunk)  # type: ignore[arg-type]


def test_state_of_another_model_is_refused(llm: LLM, tmp_path: Path) -> None:
    other = tiny_llm(tmp_path)
    with pytest.raises(UsageError, match="belongs to another model"):
        llm.step([1], other.new_state())


# -- documents -------------------------------------------------------------------------------------------------------


def test_progress_is_told_at_the_start_and_after_every_chunk(llm: LLM) -> None:
    seen: list[tuple[int, int, int]] = []
    with llm.read(STORY, progress=lambda *figures: seen.append(figures)) as doc:
        total = len(doc)
        assert [done for done, _, _ in seen] == [*range(0, total, 64), total]
        assert {figures[1] for figures in seen} == {total}
        assert seen[-1][2] == doc.nbytes > seen[1][2] > seen[0][2] == 0


def test_interrupted_reading_gives_its_memory_back(llm: LLM) -> None:
    def stop(done: int, total: int, cache_bytes: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llm.read(STORY, progress=stop)
    assert llm.pool.allocator.free == llm.pool.allocator.total
    llm.pool.allocator.check_integrity()


def test_more_tokens_than_the_context_is_refused_before_any_work(llm: LLM, tmp_path: Path) -> None:
    seen: list[int] = []
    path = tmp_path / "book.octavo"
    with pytest.raises(LimitError, match=r"the document has [\d,]+ tokens; the context of this model ends at 4,096"):
        llm.read("word " * 5000, output=path, progress=lambda *figures: seen.append(figures[0]))
    assert seen == []
    assert not path.exists()


def test_document_that_fills_the_context_is_read(tmp_path: Path) -> None:
    model = tiny_llm(tmp_path, max_position_embeddings=64)
    text = "a" * 63
    assert len(model.tokenizer.encode(text)) == 63
    with model.read(text) as doc:
        assert len(doc) == 64
        with pytest.raises(LimitError, match="ends at 64"):
            doc.ask("why?")


@pytest.mark.parametrize("data", [b"", b"\x00binary", b"caf\xe9"])
def test_bad_file_among_good_ones_names_itself_and_writes_nothing(llm: LLM, tmp_path: Path, data: bytes) -> None:
    good, bad, output = tmp_path / "good.txt", tmp_path / "bad.txt", tmp_path / "book.octavo"
    good.write_text(STORY)
    bad.write_bytes(data)
    with pytest.raises(TextError, match=r"bad\.txt"):
        llm.read([good, bad], output=output)
    assert not output.exists()


def test_the_context_of_a_million_tokens_is_reached_and_not_passed(tmp_path: Path) -> None:
    """1,048,576 tokens, BOS among them, begin to be read; one more is refused before anything is written."""
    llm = tiny_llm(tmp_path / "model", max_position_embeddings=1_048_576)
    text = "zq" * 524_287 + "z"  # a token a letter
    totals: list[int] = []

    def stop(done: int, total: int, cache_bytes: int) -> None:
        totals.append(total)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llm.read(text, progress=stop)
    assert totals == [1_048_576]
    output = tmp_path / "book.octavo"
    with pytest.raises(LimitError, match="1,048,577 tokens; the context of this model ends at 1,048,576"):
        llm.read(text + "z", output=output, progress=stop)
    assert not output.exists()


def test_named_text_is_read_like_a_file(llm: LLM) -> None:
    with llm.read(Text(name="play", text=STORY)) as doc:
        assert [(entry.name, entry.chars) for entry in doc.texts.entries] == [("play", len(STORY))]
        assert {source.file for source in doc.ask("Who?", max_tokens=2).sources} == {"play"}


# -- text ------------------------------------------------------------------------------------------------------------


def test_generate_equals_stream_and_begins_with_bos(llm: LLM) -> None:
    made = llm.generate("There was", max_tokens=9)
    stream = llm.stream("There was", max_tokens=9)
    assert "".join(stream) == made.text
    assert stream.prompt.tolist() == [llm.tokenizer.special("BOS"), *llm.tokenizer.encode("There was")]
    assert made.usage.question_tokens == len(stream.prompt)
    assert made.finish is Finish.LENGTH
    expected = int(llm.logits(stream.prompt)[-1].argmax())
    assert made.token_ids[0] == expected


def test_empty_prompt_is_completed_from_bos_alone(llm: LLM) -> None:
    assert llm.generate("", max_tokens=2).usage.question_tokens == 1


def test_generate_gives_its_memory_back(llm: LLM) -> None:
    llm.generate("There was", max_tokens=3)
    llm.chat([{"role": "user", "content": "Hello"}], max_tokens=3)
    assert llm.pool.allocator.free == llm.pool.allocator.total


def test_answers_are_plain_json(llm: LLM) -> None:
    with llm.read(STORY) as doc:
        answer = doc.ask("Who?", max_tokens=2).to_dict()
    assert json.loads(json.dumps(answer)) == answer
