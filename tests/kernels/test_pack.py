"""Packs: arrays of the weights as they are now, and none where a loop cannot read them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from octavo.kernels.pack import Pack


def test_arrays_are_the_weights_and_are_kept() -> None:
    weights = [torch.randn(3, 4), torch.randn(5)]
    pack = Pack.of(*weights)
    arrays = pack.arrays()
    assert arrays is not None
    assert all(np.shares_memory(a, w.numpy()) for a, w in zip(arrays, weights, strict=True))
    assert pack.arrays() is arrays
    weights[0][1, 2] = 7.0
    assert arrays[0][1, 2] == 7.0


def test_a_weight_that_is_replaced_is_found() -> None:
    holder = nn.Linear(4, 3, bias=False).requires_grad_(False)
    pack = Pack((holder._parameters, "weight"))
    assert pack.arrays() is not None
    holder.weight = nn.Parameter(torch.full((3, 4), 2.0), requires_grad=False)
    found = pack.arrays()
    assert found is not None
    assert (found[0] == 2.0).all()
    holder.weight.data = torch.full((2, 4), 3.0)
    found = pack.arrays()
    assert found is not None
    assert found[0].shape == (2, 4)
    assert pack.tensors()[0] is holder.weight


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(2, 3).double(), torch.zeros(2, 3).bfloat16(), torch.zeros(3, 2).T, torch.zeros(2, 3, device="meta"),
     torch.zeros(1).expand(1 << 22)],
)  # fmt: skip
def test_what_a_loop_cannot_read(weight: torch.Tensor) -> None:
    assert Pack.of(torch.zeros(2, 2), weight).arrays() is None


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_reads_its_own_weights(again: object) -> None:
    holder = nn.Linear(4, 3, bias=False).requires_grad_(False)
    holder.pack = Pack((holder._parameters, "weight"))  # pyright: ignore[reportArgumentType]
    assert holder.pack.arrays() is not None  # pyright: ignore
    twin = again(holder)  # pyright: ignore
    twin.weight.zero_()
    assert (twin.pack.arrays()[0] == 0).all()
    assert (holder.pack.arrays()[0] != 0).any()  # pyright: ignore


def test_addresses_are_those_of_the_weights_whatever_their_size() -> None:
    holder = nn.Linear(4, 3, bias=False).requires_grad_(False)
    large = torch.zeros(1 << 22)
    pack = Pack((holder._parameters, "weight"), ({"large": large}, "large"))
    found = pack.addresses()
    assert found == (holder.weight.data_ptr(), large.data_ptr())
    assert pack.addresses() is found
    assert pack.arrays() is None
    holder.weight.data = torch.ones(3, 4)
    assert pack.addresses() == (holder.weight.data_ptr(), large.data_ptr())
    holder.weight.data = torch.ones(3, 4).double()
    assert pack.addresses() is None
