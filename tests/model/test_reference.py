"""The oracle against transformers 5.23.0, and the places where transformers leaves the released model.

Covers: that two derivations that know nothing of each other agree, which makes either fit to judge ours
(`test_parity.py`), and each deviation of transformers that was found, most of them shown by measurement:

* ties of index scores: it takes whatever `topk` returns; the rule (lower entry first) is kept by the oracle and by us;
* left padding: compressors and indexer pool padding tokens into the entries of real ones (transformers issue 45938), so
  batches of unequal length differ from single runs, and length-1 steps of such a batch use no mask on HCA entries;
* angles are products in FP32: far positions lose digits (the release does so too; the oracle and we use FP64 angles);
* the rotary width is int(head_dim * (rope / head_dim)), which loses 1 for 982 pairs up to 1024 (multiples of 8, even
  ropes), none of them official: other frequencies, and with YaRN an odd result is an error;
* `n_shared_experts` is ignored: the shared expert is always one expert wide;
* in BF16, cos and sin, attention softmax, router and compressor products run in BF16, where the release uses FP32:
  parity is therefore tested in FP32;
* `mtp.*` is not read, FP8/FP4 simulation and the Hadamard rotation that belongs to it are left out.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.config.model import ModelConfig
from tests.support.hf_run import hf_run
from tests.support.oracle import Oracle
from tests.support.tiny import hf_model, random_configs, random_tensors, tiny_config

LENGTHS = (5, 127, 128, 131, 257, 385, 513)  # the long ones are in test_parity
CASES = list(zip(random_configs(len(LENGTHS), seed=12), LENGTHS, strict=True))


def random_ids(config: ModelConfig, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{n}-tokens" for n in LENGTHS])
def test_two_derivations_agree(case: int) -> None:
    config, length = CASES[case]
    tensors, ids = random_tensors(config, case), random_ids(config, length)
    theirs = hf_run(hf_model(config, tensors), ids)
    oracle = Oracle(config, tensors).run(ids.tolist(), picks=theirs.picks)
    for layer, picks in theirs.picks.items():
        assert oracle.shortfall(layer, picks).max() <= 1e-5
    for layer in oracle.experts:
        assert oracle.expert_shortfall(layer, theirs.experts[layer]).max() <= 1e-5
    assert (theirs.logits - oracle.logits).abs().max() <= 1e-4


def test_oracle_prefers_the_lower_entry_and_transformers_does_not() -> None:
    config = tiny_config(compress_ratios=(4,), index_topk=4)
    tensors, ids = random_tensors(config, 0), random_ids(config, 160)
    tensors["layers.0.attn.indexer.weights_proj.weight"].zero_()
    assert Oracle(config, tensors).run(ids.tolist()).picks[0][-1].tolist() == [0, 1, 2, 3]
    assert sorted(hf_run(hf_model(config, tensors), ids).picks[0][-1].tolist()) != [0, 1, 2, 3]


def test_transformers_pools_left_padding() -> None:
    config = tiny_config(index_topk=400)
    tensors, ids = random_tensors(config, 0), random_ids(config, 200)
    model = hf_model(config, tensors)
    padded = torch.cat((torch.full((5,), 2), ids)).unsqueeze(0)
    mask = (torch.arange(205) >= 5).long().unsqueeze(0)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        logits = model(padded, attention_mask=mask, position_ids=positions, use_cache=False).logits[0, 5:]
    assert (logits - hf_run(model, ids).logits).abs().max() > 0.1


def test_transformers_loses_digits_of_far_angles() -> None:
    config = tiny_config(compress_ratios=(0, 0))
    tensors, ids = random_tensors(config, 0), random_ids(config, 64)
    far, model = 1_000_000, hf_model(config, tensors)
    near = Oracle(config, tensors).run(ids.tolist()).logits
    assert (Oracle(config, tensors).run(ids.tolist(), first_position=far).logits - near).abs().max() < 1e-7
    with torch.no_grad():
        positions = torch.arange(far, far + 64).unsqueeze(0)
        logits = model(ids.unsqueeze(0), position_ids=positions, use_cache=False).logits[0]
    assert (logits - near).abs().max() > 0.01


def test_transformers_truncates_the_rotary_width() -> None:
    config = tiny_config(head_dim=88, qk_rope_head_dim=30, rope_scaling=None)  # with YaRN it raises instead
    assert hf_model(config, random_tensors(config, 0)).config.qk_rope_head_dim == 29


def test_transformers_ignores_the_number_of_shared_experts() -> None:
    config = tiny_config(n_shared_experts=2)
    with pytest.raises(RuntimeError, match="shared_experts"):
        hf_model(config, random_tensors(config, 0))
