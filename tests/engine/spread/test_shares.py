"""Who holds what: every value once, whole things whole, limits named, bytes added up."""

from __future__ import annotations

import pytest

from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, pro, s, xs
from octavo.engine.spread.shares import check_ranks, cut_of, part, share_of, without_drafts
from octavo.model.checkpoint.cut import Cut
from tests.support.tiny import tiny_config


@pytest.mark.parametrize(("count", "ranks", "unit"), [(12, 4, 1), (13, 4, 1), (4, 4, 1), (300, 3, 128), (3, 2, 1)])
def test_parts_are_everything_once(count: int, ranks: int, unit: int) -> None:
    parts = [part(count, rank, ranks, unit=unit) for rank in range(ranks)]
    assert [i for one in parts for i in one] == list(range(count))
    assert max(len(one) for one in parts) - min(len(one) for one in parts) <= unit
    assert all(one.start % unit == 0 for one in parts)


def cuts(name: str, shape: tuple[int, ...], config: ModelConfig, ranks: int) -> list[Cut | None]:
    return [cut_of(name, shape, config, rank, ranks) for rank in range(ranks)]


def test_experts_go_by_expert() -> None:
    found = cuts("layers.3.ffn.experts.w2", (256, 4096, 2048), flash(), 4)
    assert [cut and (cut.rows, cut.columns) for cut in found] == [(range(64 * r, 64 * r + 64), None) for r in range(4)]


@pytest.mark.parametrize(
    "name",
    ["layers.3.attn.wkv.weight", "layers.3.attn.wq_a.weight", "layers.2.attn.compressor.wkv.weight",
     "layers.2.attn.indexer.compressor.wgate.weight", "layers.3.ffn.gate.weight", "layers.3.hc_attn_fn", "norm.weight",
     "layers.1.engram.wkv.weight", "layers.2.attn.q_norm.weight"],
)  # fmt: skip
def test_what_every_rank_needs_is_whole(name: str) -> None:
    assert cuts(name, (512, 4096), flash(), 4) == [None] * 4


def test_output_goes_by_group_and_within_one_by_head() -> None:
    config = tiny_config()  # 4 heads of 32 in 2 groups of rank 16
    rows, columns = (
        cuts("layers.1.attn.wo_a.weight", (32, 64), config, 2),
        cuts("layers.1.attn.wo_b.weight", (32, 32), config, 2),
    )
    assert [cut and (cut.rows, cut.columns) for cut in rows] == [(range(16), None), (range(16, 32), None)]
    assert [cut and (cut.rows, cut.columns) for cut in columns] == [(None, range(16)), (None, range(16, 32))]
    four = cuts("layers.1.attn.wo_a.weight", (32, 64), config, 4)
    first, second = range(16), range(16, 32)
    assert [cut and (cut.rows, cut.columns) for cut in four] == [
        (first, range(32)), (first, range(32, 64)), (second, range(32)), (second, range(32, 64)),
    ]  # fmt: skip
    assert [cut and cut.columns for cut in cuts("layers.1.attn.wo_b.weight", (32, 32), config, 4)] == [
        first, first, second, second,
    ]  # fmt: skip


def test_index_heads_are_whole_where_they_cannot_be_divided() -> None:
    assert cuts("layers.1.attn.indexer.wq_b.weight", (96, 24), tiny_config(index_n_heads=3), 2) == [None, None]
    found = cuts("layers.1.attn.indexer.wq_b.weight", (128, 24), tiny_config(), 2)
    assert [cut and cut.rows for cut in found] == [range(64), range(64, 128)]


def test_one_rank_has_all() -> None:
    assert cuts("embed.weight", (400, 32), tiny_config(), 1) == [None]


@pytest.mark.parametrize(
    ("config", "ranks", "said"),
    [
        (tiny_config(), 4, "workers is 4; it must divide n_routed_experts 6"),
        (tiny_config(n_routed_experts=8), 8, "workers is 8; it must divide num_attention_heads 4"),
        (
            tiny_config(num_attention_heads=12, o_groups=4), 6,
            "workers is 6; it must divide o_groups 4, or be a multiple of it",
        ),
        (tiny_config(n_routed_experts=8, quant_sim=True), 4, "workers is 4; with quant_sim it must divide o_groups 2"),
        (tiny_config(quant_sim=True), 2, "workers is 2; the shared expert's width 24 has 1 parts"),
    ],
)  # fmt: skip
def test_limits_are_named(config: ModelConfig, ranks: int, said: str) -> None:
    with pytest.raises(UsageError) as error:
        check_ranks(config, ranks)
    assert str(error.value) == said


@pytest.mark.parametrize("make", [xs, s, flash, pro])
def test_shares_are_the_model_once_and_what_is_whole_again(make: type) -> None:
    config = make()
    [alone] = share_of(config, 1, dtype="bfloat16")
    assert alone.divided == 0
    shares = share_of(config, 2, dtype="bfloat16")
    assert len({share.whole for share in shares}) == 1
    assert sum(share.divided for share in shares) + shares[0].whole == alone.nbytes


def test_published_sizes() -> None:
    [alone] = share_of(flash(), 1, dtype="bfloat16")
    assert 2 * 283e9 < alone.nbytes < 2 * 286e9  # 284 B parameters
    eight = share_of(flash(), 8, dtype="bfloat16")
    assert max(share.nbytes for share in eight) < 80e9
    assert eight[0].whole < 1.5e9


def test_drafts_are_left_out() -> None:
    assert without_drafts(flash()).num_nextn_predict_layers == 0
    assert without_drafts(flash()).compress_ratios == flash().layer_ratios
    assert share_of(flash(), 2) == share_of(without_drafts(flash()), 2)


def test_dtypes() -> None:
    single, half = share_of(xs(), 2)[0], share_of(xs(), 2, dtype="bfloat16")[0]
    assert single.nbytes > half.nbytes > single.nbytes / 2  # router, norms and streams stay FP32
    with pytest.raises(UsageError, match="dtype is 'int8'; it must be one of float64, float32, bfloat16"):
        share_of(xs(), 2, dtype="int8")
