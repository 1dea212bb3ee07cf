"""A model spread over ranks: FSDP2 around every layer, experts on a mesh of their own.

Covers: `shard`, the one place that turns a plain model into a spread one. Does not cover: the exchange of tokens
between experts (`experts`), chunks of rows (`context`).

Rows of every parameter lie on all ranks of the dense mesh, and come together for a layer's passes; an expert's rows are
whole experts. Gradients are reduced in FP32 and summed, not averaged: the loss has its denominators over all ranks. The
parameters of embedding, head and predictor (without its experts) stay together from the forward pass to the end of the
backward pass, since what reads them stands outside of the model's own forward pass.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from octavo.config.errors import UsageError
from octavo.model.moe import Experts
from octavo.model.transformer import Transformer
from octavo.train.parallel.experts import spread_experts
from octavo.train.parallel.mesh import Mesh


def shard(model: Transformer, mesh: Mesh) -> None:
    """Spread `model`, which every rank has whole and equal, in place. Collective. Raises UsageError with a PyTorch that
    is too old for it."""
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise UsageError(f"parallel needs PyTorch 2.13 or newer; this is {torch.__version__}")
    layout = mesh.layout
    for module in model.modules():
        if isinstance(module, Experts):
            if layout.ep > 1:
                spread_experts(module, mesh.expert_group)
            _wrap(module, _mesh(mesh.experts, layout.dp))
    dense = _mesh(mesh.dense, layout.dp)
    for layer in model.layers:
        _wrap(layer, dense)
    _wrap(model, dense)


def _mesh(mesh: DeviceMesh, replicas: int) -> DeviceMesh:
    """The dimension that shares, and that of replicas where there are any."""
    return mesh["shard"] if replicas == 1 else mesh["dp", "shard"]


def _wrap(module: torch.nn.Module, mesh: DeviceMesh) -> None:
    # inputs stay as the model made them
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    assert isinstance(module, FSDPModule)
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)
    # without these zeros a rank that did not use a parameter would leave the others waiting
    module.set_reduce_scatter_unused_params(True, recurse=False)
