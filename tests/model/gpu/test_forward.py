"""One step of the GPU's model on bare slots, without an engine: the plain model's streams."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.slots import Slots
from octavo.cache.view import View
from octavo.kernels.paged import Places
from octavo.model.gpu.forward import GpuModel, Seen, Step
from octavo.model.gpu.weights import take
from tests.support.gpu_world import DEVICE, FIELDS, close
from tests.support.tiny import build_model, random_tensors, tiny_config


def test_a_first_step_of_two_sequences_with_padding_between() -> None:
    config = tiny_config(**FIELDS)
    net = build_model(config, random_tensors(config, 8)).to(DEVICE).requires_grad_(False)
    pool = PagePool(CacheLayout(config), capacity_tokens=512, device=DEVICE, fixed=True)
    slab = pool.first_slab()
    rows = {key: slab.rows(key) for key in pool.specs}
    weights = take(net, torch.float32)
    slots = Slots(pool.layout, rows, weights.biases, count=2, pages=1, device=DEVICE)
    slots.put_pages(1, [1])
    tokens = torch.tensor([20, 21, 22, 23, 24, 0, 50, 51], device=DEVICE)
    sequence = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1], dtype=torch.int32, device=DEVICE)
    position = torch.tensor([0, 1, 2, 3, 4, -1, 0, 1], dtype=torch.int32, device=DEVICE)
    model, seen = GpuModel(config, weights, dtype=torch.float32), list[Seen]()
    step = Step(tokens, Places(sequence, position), most=5)
    streams = model.forward(step, slots.layers(), seen=seen)
    real = position >= 0
    view = View.packed([0, 5, 7], device=DEVICE)
    wanted = net.logits(net(tokens[real], view).streams)
    close(model.logits(streams[real]), wanted)
    assert [one.layer for one in seen] == [1, 2]
