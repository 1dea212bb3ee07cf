"""What of a configuration the kernels lack is said."""

from __future__ import annotations

from octavo.model.gpu.missing import missing
from tests.support.tiny import tiny_config, tiny_engram


def test_what_the_kernels_lack_is_named() -> None:
    widths = {"hidden_size": 32, "q_lora_rank": 32, "o_lora_rank": 32, "moe_intermediate_size": 32}
    config = tiny_config(**widths, compress_ratios=(0, 4, 128))
    assert missing(config) is None
    for fields, said in (
        ({"engram": tiny_engram("v1", (1,))}, "engram.variant is v1"),
        ({"index_levels": 2}, "index_levels is 2"),
        ({"hc_mult": 3}, "hc_mult is 3"),
        ({"moe_intermediate_size": 24}, "multiples of 16"),
        ({"o_lora_rank": 24}, "o_lora_rank is 24"),
    ):
        assert said in str(missing(config.changed(**fields)))
