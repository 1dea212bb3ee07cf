"""From a recipe's name to a run: data, tokenizer, Engram's vocabulary map, loop.

Covers: what `octavo train` calls, and the weights it leaves in the release format. Does not cover: the loop itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.data.loader import Loader, RowPlan
from octavo.model.checkpoint import WritePlan, save_checkpoint
from octavo.text.compress_map import compress_map
from octavo.text.tokenizer import Tokenizer
from octavo.train.export import copy_beside
from octavo.train.loop import RunOptions, RunResult, Show, train
from octavo.train.parallel.checkpoint import whole_weights
from octavo.train.parallel.layout import Layout
from octavo.train.parallel.ranks import Ranks
from octavo.train.recipes import Recipe, recipe


def run(
    name: str, *, pack: Path, tokenizer: Path, options: RunOptions, workers: int = 0, parallel: str | None = None,
    show: Show | None = None,
) -> RunResult:  # fmt: skip
    """Train the recipe `name` on the packed tokens in `pack` with the tokenizer folder `tokenizer`.

    Under torchrun every rank calls this; `workers` are those of one rank, `parallel` is a layout of the ranks in words
    (`Layout.parse`), None: each holds the whole model. `show` gets what each line of the log says.
    """
    chosen, small = with_vocabulary(recipe(name), tokenizer)
    layout = None if parallel is None else Layout.parse(parallel)
    if layout is not None:
        layout.check(chosen.model, sorted({n for stage in chosen.schedule.stages for n in stage.row_lengths}))
        _check_borders(chosen, layout)
    ranks, device = Ranks.join(options.device, layout)
    plans = [chosen.schedule.plan(step) for step in range(chosen.schedule.steps)]
    rows = [RowPlan(row_length=p.row_length, skips=p.skips, dilute=p.dilute, mix=p.mix) for p in plans]

    def feed(step: int) -> Iterator[dict[str, np.ndarray]]:
        with Loader(
            pack,
            tokenizer / "tokenizer.json",
            rows,
            chosen.tokens_per_step,
            seed=chosen.seed,
            workers=workers,
            start=step,
            share=ranks.share,
        ) as loader:
            for batch in loader:
                yield {name: batch[name] for name in ("tokens", "weight", "positions", "kind", "dilution", "document")}

    result = train(chosen, feed, replace(options, device=str(device)), engram_map=small, ranks=ranks, show=show)
    if options.weights is not None:
        weights = whole_weights(result.model, ranks)
        if ranks.first:
            release(weights, chosen.model, tokenizer, options.weights)
    ranks.leave()
    return result


def _check_borders(chosen: Recipe, layout: Layout) -> None:
    """Raises UsageError where rows of several documents would be cut into chunks."""
    found = [stage.name for stage in chosen.schedule.stages if stage.mix.bundles]
    if found and layout.cp > 1:
        raise UsageError(f"parallel cp is {layout.cp}; stage {found[0]!r} has rows of several documents, which need 1")


def release(weights: Mapping[str, Tensor], config: ModelConfig, tokenizer: Path, folder: Path) -> None:
    """Write a model's state in the formats that its configuration names, with the tokenizer's files beside it."""
    save_checkpoint(weights, config, folder, WritePlan.of(config))
    copy_beside(tokenizer, folder)


def with_vocabulary(chosen: Recipe, tokenizer: Path) -> tuple[Recipe, np.ndarray | None]:
    """The recipe with Engram's vocabulary size set from the tokenizer, and the map itself (None without Engram).

    Raises UsageError when the tokenizer and the recipe's model differ in their number of ids.
    """
    loaded = Tokenizer.load(tokenizer)
    if loaded.vocab_size != chosen.model.vocab_size:
        raise UsageError(
            f"tokenizer {tokenizer} has {loaded.vocab_size} ids, recipe {chosen.name!r} needs {chosen.model.vocab_size}"
        )
    if chosen.model.engram is None:
        return chosen, None
    small, size = compress_map(loaded)
    engram = replace(chosen.model.engram, compressed_vocab_size=size)
    return replace(chosen, model=chosen.model.changed(engram=engram)), small
