"""The Python face: a loaded model and everything a caller does with it.

Covers: loading, logits and steps for research, reading and opening documents, completions, conversations. Does not
cover: how each of them is done (`runner`, `generation`, `document`, `folding`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import CheckpointError, ConfigError, LimitError, TextError, UsageError
from octavo.config.levels import INDEX_FIELDS
from octavo.config.model import ModelConfig
from octavo.config.sizes import parse_bytes
from octavo.engine.answer import Answer, Reply, Usage
from octavo.engine.chat import answer_chat
from octavo.engine.conversation import Conversation
from octavo.engine.document import Document
from octavo.engine.generation import Generation
from octavo.engine.gpu.choice import make_runner, why_plain
from octavo.engine.locate import locate
from octavo.engine.request import Request, RequestFields
from octavo.engine.runner import Runner
from octavo.engine.sources import SourceRule
from octavo.engine.spread.runner import check_workers, make_spread, setup_of
from octavo.engine.texts import Text, Texts, gather_texts
from octavo.kernels import native
from octavo.kernels.memory import in_large_pages_soon
from octavo.model.checkpoint import DTYPES, load_weights
from octavo.model.int8 import to_int8
from octavo.model.offload import load_offloaded
from octavo.model.offload_store import ExpertStore
from octavo.model.transformer import Transformer
from octavo.text.borders import WordBorders
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.message import Message
from octavo.text.plain import check_unicode
from octavo.text.tokenizer import Tokenizer

Progress = Callable[[int, int, int], None]
"""Called with (tokens done, tokens in all, bytes of cache) while a document is read."""

SPARE_TOKENS = 65536  # room for questions and answers beside a document that fills the context
_EXACT = {"float64": RowFormat.FP64, "float32": RowFormat.FP32, "bfloat16": RowFormat.BF16}


def load(
    model: str | PathLike[str],
    dtype: str = "float32",
    *,
    weights: str | None = None,
    device: str = "cpu",
    main: RowFormat | str | None = None,
    index: RowFormat | str | None = None,
    capacity_tokens: int | None = None,
    chunk: int | None = None,
    index_levels: int | None = None,
    index_block_tokens: int | None = None,
    index_blocks: int | None = None,
    index_from_tokens: int | None = None,
    offload_experts: int | str | None = None,
    offload_engram: bool = False,
    workers: int | None = None,
) -> LLM:
    """Load a model by shipped name, folder or hub id.

    dtype: float64, float32 or bfloat16, of weights and arithmetic. weights: "int8" rounds the large ones by row and
    multiplies whole numbers (float32 on the CPU only; see `octavo.model.int8`); None keeps them in `dtype`. main,
    index: how cached entries and index keys are stored (fp64, fp32, bf16, fp8, fp4); by default exactly, in the
    model's own dtype. capacity_tokens: tokens that one slab of cache holds; on CPU memory is taken only as it
    fills, so the default is the whole context. chunk: tokens read at a time (default: 1,024, on a GPU 8,192).
    On a GPU in bfloat16 the fused kernels run the model where they can; `LLM.path` says what runs.
    offload_experts: routed experts stay on disk, and this much memory ("8GB", "512MiB" or a number of bytes) holds
    those that were used most; left out, all are loaded. offload_engram: so do Engram's tables, whose rows are fetched
    as soon as a step's tokens are known. Both give the same results bit by bit and need the CPU, experts also weights
    as they are stored; the files must stay as they are while the model is used (CheckpointError otherwise).
    index_levels: 1 chooses entries among all, 2 behind the first index_from_tokens tokens only among those of the
    index_blocks best blocks of index_block_tokens tokens; left out, as the model's configuration has it.
    workers: processes that share the weights, this one among them, on the CPU or on a GPU each: each reads and holds
    its own heads and experts alone (`octavo.engine.spread`). Steps are plain operations then, and no tokens are
    drafted. `LLM.close` ends the others; when one ends by itself, everything raises WorkerError.
    Raises CheckpointError, ConfigError or TextError naming what is missing or wrong.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
    _check_rounding(weights, dtype, device)
    budget = _check_offload(offload_experts, offload_engram, weights, device)
    spread = check_workers(workers, weights=weights, offloaded=budget is not None or offload_engram, device=device)
    folder = locate(model)
    config, tokenizer = _described(folder, (index_levels, index_block_tokens, index_blocks, index_from_tokens))
    exact = _EXACT[dtype]
    main, index = _format(main, exact), _format(index, exact)
    capacity = config.max_position_embeddings + SPARE_TOKENS if capacity_tokens is None else capacity_tokens
    if spread > 1:
        runner = make_spread(
            setup_of(
                folder, config, dtype, spread, device=device, main=main, index=index, capacity_tokens=capacity,
                chunk=chunk,
            )
        )  # fmt: skip
        return LLM(runner.model, tokenizer, runner.pool, runner=runner, name=folder.name, quotes=_quotes(folder))
    with torch.device("meta"):
        net = Transformer(config)
    store = None
    if budget is None and not offload_engram:
        load_weights(net, folder, DTYPES[dtype])
    else:
        store = load_offloaded(net, folder, DTYPES[dtype], budget_bytes=budget, engram=offload_engram)
    net = net.to(device).eval().requires_grad_(False)
    if weights is not None:
        to_int8(net)
    in_large_pages_soon([*net.parameters(), *net.buffers()])  # takes half a second a 200 MB; answers may begin
    layout = CacheLayout(config, main=main, index=index)
    why = why_plain(layout, DTYPES[dtype], torch.device(device))
    pool = PagePool(layout, capacity_tokens=capacity, device=device, fixed=why is None)
    return LLM(net, tokenizer, pool, chunk=chunk, name=folder.name, quotes=_quotes(folder), experts=store)


def _described(folder: Path, index: Sequence[int | None]) -> tuple[ModelConfig, Tokenizer]:
    """The configuration with what is asked for of the index's fields, and a tokenizer that goes with it."""
    asked = {name: value for name, value in zip(INDEX_FIELDS, index, strict=True) if value is not None}
    config, tokenizer = ModelConfig.from_json(folder).changed(**asked), Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} entries, the model only {config.vocab_size}"
        )
    return config, tokenizer


def _check_rounding(weights: str | None, dtype: str, device: str) -> None:
    """Refuse, before anything is loaded, what INT8 weights do not go with."""
    if weights not in (None, "int8"):
        raise UsageError(f"weights is {weights!r}; it must be int8 or left out")
    if weights is not None and (dtype != "float32" or torch.device(device).type != "cpu"):
        raise UsageError(f"weights int8 need dtype float32 and device cpu; these are {dtype} and {device}")


def _check_offload(experts: int | str | None, engram: bool, weights: str | None, device: str) -> int | None:
    """The budget in bytes; refuse what offloading does not go with."""
    if experts is None and not engram:
        return None
    name = "offload_engram" if experts is None else "offload_experts"
    if torch.device(device).type != "cpu":
        raise UsageError(f"{name} needs device cpu; this is {device}")
    if weights is not None and experts is not None:
        raise UsageError(f"{name} needs weights as they are stored; weights is {weights!r}")
    return None if experts is None else parse_bytes(experts, name="offload_experts")


def _quotes(folder: Path) -> bool:
    """Whether `generation_config.json`, where there is one, says that answers about a document quote it."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return False
    try:
        fields = json.loads(path.read_text("utf-8"))
        quote = fields.get("quote", False)
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not a JSON object: {error}") from None
    if not isinstance(quote, bool):
        raise ConfigError(f"{path}: quote is {quote!r}; it must be true or false")
    return quote


def _format(given: RowFormat | str | None, exact: RowFormat) -> RowFormat:
    return exact if given is None else RowFormat(given) if given in tuple(RowFormat) else _no_format(given)


def _no_format(given: object) -> RowFormat:
    raise UsageError(f"a row format is {given!r}; it must be one of {', '.join(RowFormat)}")


class LLM:
    """A model, its tokenizer and the memory its sequences live in. Not safe for use from several threads at once."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, pool: PagePool, *, chunk: int | None = None,
        name: str = "model",
        quotes: bool = False, experts: ExpertStore | None = None, runner: Runner | None = None,
    ) -> None:  # fmt: skip
        """`quotes`: answers about a document are made of its own words unless a question says otherwise. `experts`: the
        store of a model whose routed experts stay on disk; its `report` counts hits, misses and bytes read. `runner`:
        what runs the model, None: whatever suits it."""
        self.quotes, self.experts = quotes, experts
        self.model, self.tokenizer, self.pool, self.name = model, tokenizer, pool, name
        self.runner = make_runner(model, pool, chunk=chunk, name=name) if runner is None else runner
        self.source_rule = SourceRule()

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def path(self) -> str:
        """What runs the model: the fused kernels and which attention, or plain operations, why, and which loops."""
        layout, weight = self.pool.layout, self.model.embed.weight
        if self.runner.path is not None:
            return self.runner.path
        if self.pool.fixed:
            from octavo.kernels.sparse_attention import sm90  # loads triton

            said = "fused kernels, steps of few tokens as CUDA graphs"
            wide = layout.config.head_dim == sm90.WIDTH and layout.main is RowFormat.FP8
            return f"{said}; {sm90.running(weight.device)}" if wide else said
        said = f"plain torch operations: {why_plain(layout, weight.dtype, weight.device)}"
        return f"{said}; {native.running()}" if weight.is_cpu else said

    @cached_property
    def borders(self) -> WordBorders:
        """Where words begin and end among this model's tokens."""
        return WordBorders(self.tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) that tells this model's weights from others."""
        return self.runner.fingerprint()

    @property
    def failure(self) -> str | None:
        """Why the model can do nothing any more: one of its workers has ended; None else."""
        return self.runner.failure

    def close(self) -> None:
        """End the workers of a model that is spread over several; there is nothing to end otherwise. Twice is fine."""
        self.runner.close()

    # -- for research and tests --------------------------------------------------------------------------------------

    def logits(self, ids: Sequence[int] | np.ndarray | Tensor, chunk: int | None = None) -> Tensor:
        """Logits [T, V] of a sequence, at least FP32: in one pass without a state, or in chunks of `chunk` on a fresh
        one.

        `ids` are taken as they are: nothing is put before them. Raises LimitError for no ids, an id outside the
        vocabulary, more ids than the context, or a chunk below 1.
        """
        checked = self._ids(ids)
        if chunk is None:
            return self.runner.whole_logits(checked)
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise LimitError(f"chunk is {chunk!r}; it must be an integer from 1")
        with closing(self.new_state()) as state:
            return self.runner.all_logits(checked, state, chunk=chunk)

    def new_state(self) -> SequenceState:
        """An empty sequence, for `step`."""
        return self.runner.new_state()

    def step(self, ids: Sequence[int] | np.ndarray | Tensor, state: SequenceState) -> Tensor:
        """Read `ids` after what `state` holds, in one pass; logits [len(ids), V]. LimitError as for `logits`."""
        if state.pool is not self.pool:
            raise UsageError("the state belongs to another model")
        return self.runner.step(self._ids(ids), state, all_rows=True).logits

    def _ids(self, ids: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
        """Checked ids [T] int64."""
        given = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
        if given.ndim != 1 or given.size == 0:
            raise LimitError(f"ids have the shape {list(given.shape)}; a list of at least 1 id is needed")
        if not np.issubdtype(given.dtype, np.integer):
            raise LimitError(f"ids are of type {given.dtype}; integers are needed")
        wrong = np.flatnonzero((given < 0) | (given >= self.config.vocab_size))
        if len(wrong):
            place = int(wrong[0])
            last = self.config.vocab_size - 1
            raise LimitError(f"ids[{place}] is {int(given[place])}; ids of this model are 0 to {last}")
        if given.size > self.runner.limit:
            raise LimitError(f"{given.size:,} ids are more than the context of this model: {self.runner.limit:,}")
        return given.astype(np.int64)

    def question_ids(self, question: str, *, after: int = 0) -> list[int]:
        """A question as it follows a document of `after` tokens: user mark, text, assistant mark, closed think block.

        Raises TextError for an empty one or one that is no Unicode, LimitError when it does not fit into the context.
        """
        if not question.strip():
            raise TextError("the question is empty")
        check_unicode(question, name="the question")
        asked: list[Message] = [{"role": "user", "content": question}]
        ids = encode_chat(self.tokenizer, asked, options=ChatOptions(bos=False))
        self.runner.check_room(len(ids), after, what="the question")
        return ids

    # -- documents ---------------------------------------------------------------------------------------------------

    def read(
        self,
        sources: str | Path | Text | Sequence[str | Path | Text],
        *,
        output: str | Path | None = None,
        progress: Progress | None = None,
        controls: Controls | None = None,
    ) -> Document:
        """Read texts (a `str` is text itself, a `Path` a file, `Path("-")` standard input) as one document.

        With `output` the document is written to that `.octavo` file while it is read; a file that holds the beginning
        of the same texts, read by the same model, is gone on with. An interrupt leaves it valid. `progress` is called
        at the start and after every chunk. Raises TextError naming file and byte for what is no text, LimitError before
        any work when there are more tokens than the model's context, DocumentError when `output` is something else.
        """
        texts = Texts.encode(gather_texts(sources), self.tokenizer)
        if len(texts.ids) > self.runner.limit:
            raise LimitError(
                f"the document has {len(texts.ids):,} tokens; the context of this model ends at {self.runner.limit:,}"
            )
        if output is not None:
            from octavo.engine.folding import read_to_file

            return read_to_file(self, texts, Path(output), progress=progress, controls=controls)
        started = time.perf_counter()
        state = self.new_state()
        total = len(texts.ids)

        def after(state: SequenceState) -> None:
            if progress is not None:
                progress(state.length, total, state.nbytes)

        try:
            after(state)
            self.runner.read(texts.ids, state, controls=controls, after=after)
        except BaseException:
            state.close()
            raise
        seconds = time.perf_counter() - started
        return Document(self, state, texts, Usage(read_tokens=total, seconds=seconds, cache_bytes=state.nbytes))

    def open(self, path: str | Path) -> Document:
        """Open an `.octavo` file: a memory map, at once at any length. DocumentError names what is wrong with it."""
        from octavo.engine.folding import open_document

        return open_document(self, Path(path))

    # -- text ----------------------------------------------------------------------------------------------------------

    def stream(self, prompt: str, *, controls: Controls | None = None, **request: Unpack[RequestFields]) -> Generation:
        """A completion of `prompt` in the making: iterate over it for pieces of text. All at once: `generate`."""
        check_unicode(prompt, name="the prompt")
        ids = [self.tokenizer.special("BOS"), *self.tokenizer.encode(prompt)]
        return Generation(self.runner, self.tokenizer, self.new_state(), ids, Request(**request), controls=controls)

    def generate(self, prompt: str, *, controls: Controls | None = None, **request: Unpack[RequestFields]) -> Answer:
        """Complete `prompt` (after BOS); an empty prompt is allowed. Options: see `Request`."""
        made = self.stream(prompt, controls=controls, **request)
        made.run()
        usage = Usage(
            question_tokens=len(made.prompt),
            answer_tokens=len(made.token_ids),
            drafted_tokens=made.drafted_tokens,
            accepted_tokens=made.accepted_tokens,
            seconds=made.seconds,
            cache_bytes=made.state.nbytes,
        )
        made.state.close()
        return Answer(
            text=made.text, usage=usage, finish=made.finish_reason, token_ids=tuple(made.token_ids), seed=made.seed
        )

    def chat(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The next turn of a conversation (message dicts of the OpenAI shape).

        options: thinking, effort, profile, tools, response_format, on_event, and the fields of `Request`.
        """
        with closing(self.new_state()) as state:
            return answer_chat(self, messages, state=state, **options)

    def converse(self, *, system: str | None = None, **options: Any) -> Conversation:
        """A conversation that keeps its state between turns; options as for `chat`."""
        return Conversation(self, system=system, **options)
