"""The maps around attention in one loop, against the model's single operations; when which of them runs."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import dispatch
from octavo.kernels.pack import Pack
from octavo.kernels.projections import Inputs, project_in, project_out
from octavo.model.attention import Attention
from octavo.model.rotary import Rotary
from tests.support.tiny import build_model, random_tensors, tiny_config

LAYERS = [0, 1, 2]  # window, CSA, HCA


def attention(layer: int) -> tuple[Attention, Rotary]:
    config = tiny_config()
    model = build_model(config, random_tensors(config, 3))
    made = model.layers[layer].get_submodule("attn")
    assert isinstance(made, Attention)
    return made, model.rotary


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("T", [1, 3, 8])
@torch.no_grad()
def test_in_and_out_are_as_by_single_operations(T: int, layer: int) -> None:
    torch.manual_seed(T)
    attn, rotary = attention(layer)
    x, o = torch.randn(T, 32), torch.randn(T, 4, 32)
    table = rotary.table(torch.arange(100, 100 + T), attn.ratio, torch.float32)

    def never() -> Inputs:
        raise AssertionError("the loop did not run")

    found = project_in(x, attn._pack_in, *table, heads=4, index_heads=4, eps=attn.eps, plain=never)
    with dispatch.use(dispatch.Body.REFERENCE):
        expected = attn._project_in(x, table)
        back = attn._project_out(o, table)
    assert [a is None for a in found] == [b is None for b in expected]
    for name, a, b in zip(Inputs._fields, found, expected, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=5e-6, msg=name)
    made = project_out(o, attn._pack_out, *table, plain=lambda: torch.zeros(()))
    torch.testing.assert_close(made, back, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("why", ["gradient", "reference", "many", "double", "no pack", "weights", "none"])
def test_single_operations_run_elsewhere(why: str) -> None:
    x = torch.zeros({"many": 9, "none": 0}.get(why, 1), 4, 8, dtype=torch.float64 if why == "double" else torch.float32)
    weights = torch.zeros(2, 8, 8, dtype=torch.bfloat16 if why == "weights" else torch.float32)
    pack = None if why == "no pack" else Pack.of(*weights)
    cos = sin = torch.zeros(len(x), 2)
    mark = torch.ones(())
    with torch.set_grad_enabled(why == "gradient"):
        body = dispatch.Body.REFERENCE if why == "reference" else dispatch.Body.FAST
        with dispatch.use(body):
            assert project_out(x, pack, cos, sin, plain=lambda: mark) is mark
