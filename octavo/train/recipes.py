"""Recipes: one function, one whole run.

Covers: what is trained, on what, for how long. Does not cover: how (`loop`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.config.presets import s, xs, xs_engram, xs_plain
from octavo.data.shares import Mix
from octavo.model.checkpoint import WritePlan
from octavo.train.optim import OptimConfig
from octavo.train.schedule import Schedule, Stage
from octavo.train.stabilise import Stabilise
from octavo.train.step import LossWeights


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run. `tokens_per_step` is a multiple of every row length; rows longer than `recompute_from` recompute their
    layers. Parameters whose names begin with one of `only` train (empty: all), the others stay as they are. `rounded`:
    formats in which the weights will ship, and whose rounding they meet in training already."""

    name: str
    model: ModelConfig
    schedule: Schedule
    optim: OptimConfig = field(default_factory=OptimConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    tokens_per_step: int = 131_072
    recompute_from: int = 16_384
    seed: int = 2026
    only: tuple[str, ...] = ()
    rounded: WritePlan | None = None
    stabilise: Stabilise = field(default_factory=Stabilise)


def octavo_xs() -> Recipe:
    """`octavo-xs`: dense rows of 2K while the recall circuits form, sparse rows with position skips, then rows of 16K
    and 64K while the rate falls. A share of rows counts as part of a longer context (`dilute`), so that the thousands
    of HCA entries of a long one do not drown what was looked for.

    The indexer learns beside dense attention from the first step, so there is no separate warm-up stage for it. The
    number of picks is drawn per step, so that more picks at test do no harm.
    """
    return Recipe(
        name="octavo-xs",
        model=xs(),
        schedule=Schedule(
            stages=(
                Stage(name="dense", steps=850, row_lengths=(2048,), warmup=60, dilute=0.2),
                Stage(
                    name="sparse", steps=1400, row_lengths=(4096,), topk=(64, 128), skips=0.5, dilute=0.5,
                    final_rate=0.7,
                ),
                Stage(
                    name="long", steps=450, row_lengths=(16384,), topk=(64, 128), skips=0.6, dilute=0.5, rate=0.7,
                    final_rate=0.3,
                ),
                Stage(
                    name="longest", steps=320, row_lengths=(65536, 16384), shares=(0.7, 0.3), topk=(64, 128),
                    skips=0.6, dilute=0.6, rate=0.3, final_rate=0.02,
                ),
            ),
        ),
        tokens_per_step=262_144,
        recompute_from=131_072,
    )


def octavo_xs_longer() -> Recipe:
    """Goes on from the weights of `octavo-xs` (`--init-from`): rows of 64K and of 16K, one of the two a step."""
    base = octavo_xs()
    last = Stage(
        name="longer", steps=420, row_lengths=(65536, 16384), topk=(64, 128), shares=(0.5, 0.5), skips=0.6, dilute=0.6,
        rate=0.35, final_rate=0.02, warmup=15,
    )  # fmt: skip
    return replace(base, name="octavo-xs-longer", schedule=Schedule(stages=(last,), seed=1), seed=base.seed + 1)


def octavo_xs_wider() -> Recipe:
    """Goes on from the weights of `octavo-xs-longer` (`--init-from`) once there were many more wordings and relations:
    short rows at a high rate to learn them."""
    base = octavo_xs()
    stage = Stage(
        name="wider", steps=2800, row_lengths=(4096,), topk=(64, 128), skips=0.6, dilute=0.5, rate=0.8, final_rate=0.4,
        warmup=40,
    )  # fmt: skip
    return replace(base, name="octavo-xs-wider", schedule=Schedule(stages=(stage,), seed=2), seed=base.seed + 2)


def octavo_xs_mixed() -> Recipe:
    """Goes on from the weights of `octavo-xs-wider`: rows of 4K, 16K and 64K by lot, while the rate falls."""
    base = octavo_xs()
    stage = Stage(
        name="mixed", steps=960, row_lengths=(65536, 16384, 4096), shares=(0.3, 0.35, 0.35), topk=(64, 128), skips=0.6,
        dilute=0.6, rate=0.45, final_rate=0.015, warmup=25,
    )  # fmt: skip
    return replace(base, name="octavo-xs-mixed", schedule=Schedule(stages=(stage,), seed=3), seed=base.seed + 3)


def octavo_xs_fuller() -> Recipe:
    """Goes on from the weights of `octavo-xs-mixed` once there were three times as many relations: as
    `octavo-xs-wider`."""
    wider = octavo_xs_wider()
    stage = replace(wider.schedule.stages[0], name="fuller", steps=1440, rate=0.75)
    return replace(wider, name="octavo-xs-fuller", schedule=Schedule(stages=(stage,), seed=4), seed=wider.seed + 2)


def octavo_xs_settled() -> Recipe:
    """Goes on from the weights of `octavo-xs-fuller`: as `octavo-xs-mixed`, to a rate of nothing."""
    mixed = octavo_xs_mixed()
    stage = replace(mixed.schedule.stages[0], name="settled", rate=0.5, final_rate=0.005)
    return replace(mixed, name="octavo-xs-settled", schedule=Schedule(stages=(stage,), seed=5), seed=mixed.seed + 2)


def octavo_xs_last() -> Recipe:
    """Goes on from the weights of `octavo-xs-settled`, which saw the old relations alone: the same with all of them."""
    settled = octavo_xs_settled()
    stage = replace(settled.schedule.stages[0], name="last", steps=600, rate=0.45)
    return replace(settled, name="octavo-xs-last", schedule=Schedule(stages=(stage,), seed=6), seed=settled.seed + 1)


def octavo_xs_predictor() -> Recipe:
    """An MTP block for the weights of `octavo-xs-last`, which stay as they are: it alone trains, on rows of 4K and 16K.
    """
    base = octavo_xs()
    stage = Stage(
        name="predictor", steps=1500, row_lengths=(4096, 16384), shares=(0.7, 0.3), topk=(128,), skips=0.5,
        final_rate=0.02, warmup=40,
    )  # fmt: skip
    return replace(
        base, name="octavo-xs-predictor", schedule=Schedule(stages=(stage,), seed=7), seed=base.seed + 7,
        model=base.model.changed(num_nextn_predict_layers=1, compress_ratios=(*base.model.layer_ratios, 0)),
        weights=LossWeights(mtp=1.0), only=("mtp.",),
    )  # fmt: skip


def octavo_xs_engram() -> Recipe:
    """A twin: `octavo-xs` with a larger Engram table, from random weights, to be compared with `octavo-xs-plain`.

    First most rows are to be read (lessons on facts with and without their text, planted questions in prose), so that
    answers from the text form; then most are documents of facts, each about 17 times in all, while the rate falls.
    Rows of 2,048 tokens, all of whose entries are seen: the prompts of the test have fewer than are picked.
    """
    read = Stage(name="read", steps=260, row_lengths=(2048,), warmup=50, mix=_facts_mix(facts=0.25, lessons=0.45))
    learn = replace(read, name="learn", steps=380, warmup=0, final_rate=0.02, mix=_facts_mix(facts=0.65, lessons=0.2))
    return Recipe(
        name="octavo-xs-engram", model=xs_engram(), schedule=Schedule(stages=(read, learn), seed=40), seed=4026
    )  # fmt: skip


def octavo_xs_plain() -> Recipe:
    """The other twin: the same rows in the same order, experts in place of Engram."""
    return replace(octavo_xs_engram(), name="octavo-xs-plain", model=xs_plain())


def _facts_mix(*, facts: float, lessons: float) -> Mix:
    """Shares of rows of documents of facts and of lessons on them; the rest are planted questions in text."""
    return Mix(
        lessons=lessons, lesson_kinds=("closed_book", "open_book"), plain=facts / (1 - lessons), documents=1.0,
        sources=("facts",),
    )  # fmt: skip


S_SHIPS = WritePlan(experts_fp4=True, embeddings=True, engram_tables=True)
"""The formats in which `octavo-s` ships (decision 0030)."""
_S_FIRST = Mix(
    speaker=0.15, multi_key=0.12, multi_value=0.04, two_hop=0.05, two_hop_steps=0.07, tracking=0.07, ordering=0.03,
    counting=0.03, plain=0.3, code=0.12, tokens_per_question=130,
)  # fmt: skip
_S_MIX = replace(_S_FIRST, multi_key=0.14, multi_value=0.06, two_hop=0.1, ordering=0.05, counting=0.05)


def octavo_s() -> Recipe:
    """`octavo-s` without its MTP block, which `octavo-s-predictor` adds: dense rows while the recall circuits form,
    sparse rows of 4K, then rows of 4K, 16K and 64K by lot at a constant rate for as long as there is time. Whatever
    step it is cut at, `octavo-s-anneal` brings its weights to rest.

    Three rows of ten are text alone, at half an answer's weight: language is learned from them. The others hold every
    kind of question.
    """
    model = s()
    sparse = Stage(
        name="sparse", steps=900, row_lengths=(4096,), topk=(64, 128, 256), skips=0.5, dilute=0.5, mix=_S_MIX
    )  # fmt: skip
    return Recipe(
        name="octavo-s",
        model=model.changed(num_nextn_predict_layers=0, compress_ratios=model.layer_ratios),
        schedule=Schedule(
            stages=(
                Stage(
                    name="dense", steps=600, row_lengths=(2048, 4096), shares=(0.7, 0.3), warmup=80, dilute=0.2,
                    mix=_S_FIRST,
                ),
                sparse,
                replace(
                    sparse, name="stable", steps=10_000, row_lengths=(4096, 16384, 65536), shares=(0.6, 0.3, 0.1),
                    skips=0.6,
                ),
            ),
            seed=20,
        ),
        optim=OptimConfig(matrix_lr=6e-3),
        tokens_per_step=262_144,
        recompute_from=131_072,
        seed=3026,
    )  # fmt: skip


def octavo_s_further() -> Recipe:
    """Goes on from weights of `octavo-s` that was cut off (`--init-from`), at the same rate, for as long as there is
    time."""
    base = octavo_s()
    stage = replace(base.schedule.stages[-1], name="further", warmup=60)
    return replace(base, name="octavo-s-further", schedule=Schedule(stages=(stage,), seed=23), seed=base.seed + 3)


def octavo_s_anneal() -> Recipe:
    """Goes on from weights of `octavo-s` or `octavo-s-further` (`--init-from`): more of the long rows, to a rate of
    nothing."""
    base = octavo_s_further()
    stage = replace(
        base.schedule.stages[0], name="anneal", steps=500, shares=(0.4, 0.35, 0.25), dilute=0.6, final_rate=0.01,
        warmup=25, mix=replace(_S_MIX, plain=0.25),
    )  # fmt: skip
    return replace(base, name="octavo-s-anneal", schedule=Schedule(stages=(stage,), seed=22), seed=base.seed + 1)


def octavo_s_fuller() -> Recipe:
    """Goes on from the weights of `octavo-s-anneal` (`--init-from`) once linked questions had six times as many
    wordings: as `octavo-s-further`, with more of the questions that were answered worst."""
    base = octavo_s_further()
    mix = replace(_S_MIX, speaker=0.2, multi_key=0.1, multi_value=0.08, tracking=0.08, plain=0.25)
    stage = replace(base.schedule.stages[0], name="fuller", shares=(0.5, 0.35, 0.15), rate=0.9, final_rate=0.9, mix=mix)
    return replace(base, name="octavo-s-fuller", schedule=Schedule(stages=(stage,), seed=25), seed=base.seed + 4)


def octavo_s_settled() -> Recipe:
    """Goes on from the weights of `octavo-s-fuller` to a rate of nothing, with the weights rounded as they ship."""
    fuller = octavo_s_fuller()
    stage = replace(
        fuller.schedule.stages[0], name="settled", steps=900, shares=(0.4, 0.35, 0.25), final_rate=0.005, warmup=25,
        dilute=0.6,
    )  # fmt: skip
    return replace(
        fuller, name="octavo-s-settled", schedule=Schedule(stages=(stage,), seed=26), seed=fuller.seed + 1,
        rounded=S_SHIPS,
    )  # fmt: skip


def octavo_s_taught() -> Recipe:
    """Goes on from the shipped weights of `octavo-s-settled` (`--init-from`): 367 million tokens, to a rate of nothing,
    rounded as they ship from the first step on, since no later one would make up for it.

    A good quarter of the rows are packed with lessons (chat, tools, passages, JavaScript, facts with and without their
    text), one in six is text alone, so that language stays what it was, one in 36 documents of facts, some four passes
    over them, so that there is something to ask by heart; the others are recall, with more of the kinds that were
    answered worst. Trials told why they were (docs/training.md): with trained wordings two hops in two steps came out
    right 40 of 40 times among ten chains in 5K tokens, 35 among forty, 24 in held-out wordings; several values 24 among
    ten keys, 16 among forty. So a third of the recall rows ask mostly of one kind (`focus`), a third ask at the end
    alone (`tail`), as a document is asked, and there are more wordings of the questions. Which of two things comes
    first is answered by chance even in training rows: its share only keeps the form. Half of the full rate, since there
    is much that is new. Sixty-four picks are never drawn any more: the shipped model takes 256.
    """
    base = octavo_s_settled()
    stage = base.schedule.stages[0]
    mix = replace(
        stage.mix, lessons=0.28, plain=0.26, documents=0.15, sources=("facts",), speaker=0.25, multi_key=0.1,
        multi_value=0.12, two_hop=0.1, two_hop_steps=0.15, tracking=0.07, ordering=0.02, counting=0.03, tail=0.35,
        focus=0.35,
    )  # fmt: skip
    taught = replace(
        stage, name="taught", steps=1400, shares=(0.35, 0.35, 0.3), topk=(128, 256, 256), dilute=0.7, rate=0.5,
        final_rate=0.005, warmup=30, mix=mix,
    )  # fmt: skip
    return replace(base, name="octavo-s-taught", schedule=Schedule(stages=(taught,), seed=27), seed=base.seed + 2)


def octavo_s_versed() -> Recipe:
    """Goes on from the shipped weights of `octavo-s-taught` (`--init-from`), as that did from those before: 288 million
    tokens with three times as many questions for the speaker of a line, at which it fell short of `octavo-xs`, twice
    the weight of JavaScript among the lessons (0.40 of them for 0.25), most of it composed of drawn parts
    (octavo.data.programs), and a few rows of several works that ask which one a passage is from."""
    taught = octavo_s_taught()
    stage = taught.schedule.stages[0]
    mix = replace(
        stage.mix, lessons=0.3, plain=0.2, documents=0.2, speaker=0.48, multi_key=0.1, multi_value=0.06, two_hop=0.02,
        two_hop_steps=0.1, tracking=0.05, ordering=0.01, counting=0.02, work=0.05,
        lesson_kinds=("dialogue", "tool", "passage", "program", "program", "closed_book", "open_book"),
    )  # fmt: skip
    versed = replace(stage, name="versed", steps=1100, mix=mix)
    return replace(taught, name="octavo-s-versed", schedule=Schedule(stages=(versed,), seed=28), seed=taught.seed + 4)


def octavo_s_predictor() -> Recipe:
    """An MTP block for the weights of `octavo-s-settled`, which stay as they are: it alone trains."""
    base = octavo_s_settled()
    stage = replace(
        base.schedule.stages[0], name="predictor", steps=1200, row_lengths=(4096, 16384), shares=(0.7, 0.3),
        topk=(256,), final_rate=0.02, warmup=40,
    )  # fmt: skip
    return replace(
        base, name="octavo-s-predictor", schedule=Schedule(stages=(stage,), seed=24), seed=base.seed + 1, model=s(),
        weights=LossWeights(mtp=1.0), only=("mtp.",),
    )  # fmt: skip


def tiny() -> Recipe:
    """A run of seconds on CPU, to see that everything works; the model is a cut-down `xs`."""
    small = xs().changed(hidden_size=64, num_attention_heads=2, o_groups=1, q_lora_rank=32, o_lora_rank=32)
    stages = (
        Stage(name="dense", steps=6, row_lengths=(256,), warmup=2),
        Stage(
            name="sparse", steps=4, row_lengths=(256, 512), shares=(0.5, 0.5), topk=(16,), skips=0.5, dilute=0.5,
            final_rate=0.1,
        ),
    )  # fmt: skip
    base = octavo_xs()
    return replace(base, name="tiny", model=small, schedule=Schedule(stages=stages), tokens_per_step=1024)


RECIPES = {
    "octavo-xs": octavo_xs, "octavo-xs-longer": octavo_xs_longer, "octavo-xs-wider": octavo_xs_wider,
    "octavo-xs-mixed": octavo_xs_mixed, "octavo-xs-fuller": octavo_xs_fuller, "octavo-xs-settled": octavo_xs_settled,
    "octavo-xs-last": octavo_xs_last, "octavo-xs-predictor": octavo_xs_predictor,
    "octavo-xs-engram": octavo_xs_engram, "octavo-xs-plain": octavo_xs_plain,
    "octavo-s": octavo_s, "octavo-s-further": octavo_s_further, "octavo-s-anneal": octavo_s_anneal,
    "octavo-s-fuller": octavo_s_fuller, "octavo-s-settled": octavo_s_settled,
    "octavo-s-taught": octavo_s_taught, "octavo-s-versed": octavo_s_versed, "octavo-s-predictor": octavo_s_predictor,
    "tiny": tiny,
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The recipe called `name`; raises UsageError naming the known ones."""
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r} is not known; there are {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()
