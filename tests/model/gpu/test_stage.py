"""A stage of the predictor on a bare ring, without an engine: the plain stage's streams and logits."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from octavo.cache.layout import CacheLayout
from octavo.cache.view import View
from octavo.kernels.paged import Places, Ring
from octavo.model.gpu.forward import GpuModel
from octavo.model.gpu.stage import GpuStage
from octavo.model.gpu.weights import take, take_stage
from octavo.model.mtp import MTP
from tests.support.gpu_world import DEVICE, close, smaller_model


def test_rows_numbered_from_their_first_one_are_the_plain_stages() -> None:
    """Seven rows in two steps with padding, from position 90 on, in the second of two rings."""
    net = smaller_model(num_nextn_predict_layers=1)
    config, stage = net.config, net.mtp[0]
    assert isinstance(stage, MTP)
    generator = torch.Generator().manual_seed(4)
    streams = torch.randn(7, config.hc_mult, config.hidden_size, generator=generator).to(DEVICE)
    following = torch.tensor([20, 21, 22, 23, 24, 50, 51], device=DEVICE)
    with torch.inference_mode():
        view = View.packed([0, 7], device=DEVICE)  # a window layer sees differences of positions alone
        wanted, _ = stage.advance(streams, net.embed(following), following, view, net.rotary)
        logits = net.head(stage.read_out(wanted))
    fast = GpuStage(GpuModel(config, take(net, torch.float32), dtype=torch.float32), take_stage(net, torch.float32))
    rows = torch.zeros(2, 64, CacheLayout(config).window_row_bytes, dtype=torch.uint8, device=DEVICE)
    for first, stop, width in ((0, 5, 8), (5, 7, 2)):
        numbers = torch.full((width,), -1, dtype=torch.int32, device=DEVICE)
        numbers[: stop - first] = torch.arange(first, stop)
        given, ids = streams.new_zeros(width, *streams.shape[1:]), following.new_zeros(width)
        given[: stop - first], ids[: stop - first] = streams[first:stop], following[first:stop]
        places = Places(torch.ones_like(numbers), numbers)
        after = fast.advance(given, ids, Ring(rows), places, numbers.clamp_min(0).long() + 90)[: stop - first]
        close(after, wanted[first:stop])
        close(fast.logits(after), logits[first:stop])
    assert not bool(rows[0].any())
