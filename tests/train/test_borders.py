"""A step on rows of several documents: losses and gradients are those of the documents as rows of their own.

The kernels are in `tests/kernels/test_borders.py`, logits in `tests/model/test_borders.py`. Without a GPU Triton's run
in its interpreter.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls
from octavo.kernels import dispatch
from octavo.kernels.dispatch import TRITON, Body, train_in_triton, use
from octavo.model.transformer import Transformer
from octavo.train.optim import OptimConfig, Optimizer
from octavo.train.step import Batch, LossWeights, StepReport, recompute_layers, train_step
from tests.support.packing import alone, numbers, packed, packings, restarted
from tests.support.training import fresh, plan_of, small_config

APART = LossWeights(clip=math.inf, balance=0.0, index=0.0)
"""Losses that are sums over tokens; balance and index losses have denominators over whole batches."""
SMALL: tuple[int, ...] = (5, 1, 4, 3)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def batch_of(rows: list[tuple[int, ...]], seed: int = 0) -> Batch:
    size, draw = sum(rows[0]), torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 32, (len(rows), size), generator=draw)
    weight = torch.where(torch.rand(len(rows), size, generator=draw) < 0.4, 1.0, 0.1)
    kind = torch.where(weight >= 1, torch.randint(1, 5, weight.shape, generator=draw), 0).to(torch.uint8)
    return Batch(
        tokens=tokens, weight=weight, positions=torch.stack([restarted(one) for one in rows]), kind=kind,
        document=torch.stack([numbers(one) for one in rows]),
    )  # fmt: skip


def documents_of(batch: Batch, rows: list[tuple[int, ...]]) -> list[Batch]:
    """Every document as a batch of its own."""
    found = []
    for row, lengths in enumerate(rows):
        ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
        for start, stop in itertools.pairwise(ends):
            here = slice(row, row + 1), slice(start, stop)
            assert batch.kind is not None
            found.append(Batch(
                tokens=batch.tokens[here], weight=batch.weight[here], positions=batch.positions[here],
                kind=batch.kind[here], dilution=None if batch.dilution is None else batch.dilution[row : row + 1],
            ))  # fmt: skip
    return found


def on_device(model: Transformer, batch: Batch) -> tuple[Transformer, Batch]:
    """Both where Triton's kernels run."""
    given = {one.name: getattr(batch, one.name) for one in fields(batch)}
    moved = {name: value.to(DEVICE) for name, value in given.items() if isinstance(value, Tensor)}
    return model.to(DEVICE), replace(batch, **moved)


def warmed(**changes: object) -> Transformer:
    """A model past its start, where blocks are still the identity and the head is zero."""
    model, optimizer = fresh(small_config(**changes))
    for seed in range(3):
        train_step(model, optimizer, [batch_of([(20, 12)], 100 + seed)], plan_of(), LossWeights())
    return model


def stepped(
    model: Transformer, batches: list[Batch], *, topk: int | None = 2, recompute: bool = False
) -> tuple[StepReport, dict[str, Tensor]]:
    """The report and the gradients of a step from the model's weights, which stay."""
    model = copy.deepcopy(model)
    optimizer = Optimizer(dict(model.named_parameters()), model.config, OptimConfig())
    if recompute:
        recompute_layers(model)
    length = max(b.tokens.shape[1] for b in batches)
    report = train_step(model, optimizer, batches, plan_of(topk=topk, length=length), APART)
    return report, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def equal(made: tuple[StepReport, dict[str, Tensor]], wanted: tuple[StepReport, dict[str, Tensor]]) -> None:
    (report, grads), (expected, others) = made, wanted
    for name in ("loss", "mtp_loss", "text_loss", "answer_loss", "answer_accuracy", "mtp_accuracy", "grad_norm"):
        one, other = getattr(report, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert torch.equal(report.hits_by_kind, expected.hits_by_kind)
    assert torch.equal(report.asked_by_kind, expected.asked_by_kind)
    whole = float(torch.stack([g.norm() for g in others.values()]).norm())
    off = {n: float((grads[n] - g).norm()) / (float(g.norm()) + 1e-3 * whole) for n, g in others.items()}
    assert {name: value for name, value in off.items() if not value < 1e-4} == {}


@contextmanager
def interpreted(*operations: str) -> Iterator[None]:
    """Let these operations train in Triton on any device, and no other body of a GPU run."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())

        def here(x: Tensor, operation: str) -> bool:
            chosen = operation in dispatch._IN_TRITON.get()
            return torch.is_grad_enabled() and dispatch.body() is Body.FAST and chosen

        patch.setattr(dispatch, "trains_in_triton", here)
        patch.setattr(dispatch, "trains_on_gpu", lambda x: False)
        stack.enter_context(train_in_triton(operations))
        yield


@pytest.mark.parametrize("body", list(Body))
@pytest.mark.parametrize("rows", [[one, one[::-1]] for one in packings(5, seed=7, most=400)], ids=str)
def test_losses_and_gradients_are_those_of_the_documents(body: Body, rows: list[tuple[int, ...]]) -> None:
    model = warmed(compress_ratios=(0, 4, 128, 0), num_nextn_predict_layers=1, num_hidden_layers=3)
    batch = replace(batch_of(rows, 1), dilution=torch.tensor([0.7, 2.0]))
    with use(body):
        equal(stepped(model, [batch]), stepped(model, documents_of(batch, rows)))


@pytest.mark.parametrize("topk", [None, 2])
def test_with_a_convolution_in_engram_and_in_micro_batches(topk: int | None) -> None:
    rows = [(9, 1, 22), (32,), (4, 28)]
    engram = replace(small_config().engram, variant="v1", max_ngram_size=3)  # pyright: ignore[reportArgumentType]
    model, batch = warmed(engram=engram), batch_of(rows, 2)
    names = ("tokens", "weight", "positions", "kind", "document")
    parts = [replace(batch, **{name: getattr(batch, name)[i : i + 1] for name in names}) for i in range(3)]
    equal(stepped(model, parts, topk=topk), stepped(model, documents_of(batch, rows), topk=topk))


def test_recomputed_layers_give_the_same_bits() -> None:
    model, batch = warmed(compress_ratios=(0, 4, 128)), batch_of([(130, 7, 129)], 3)
    (report, grads), (again, others) = (stepped(model, [batch], recompute=r) for r in (False, True))
    assert torch.equal(report.loss, again.loss)
    for name, grad in grads.items():
        assert torch.equal(grad, others[name]), name


def test_every_kernel_in_triton() -> None:
    """Window, CSA with picks, Engram, predictor."""
    pytest.importorskip("triton")
    rows, model = [SMALL], warmed(hidden_size=32, hc_sinkhorn_iters=2, num_nextn_predict_layers=1)
    model, batch = on_device(model, batch_of(rows, 4))
    with use(Body.REFERENCE):
        wanted = stepped(model, documents_of(batch, rows), topk=1)
    with interpreted(*TRITON):
        equal(stepped(model, [batch], topk=1), wanted)


@pytest.mark.parametrize("topk", [None, 3])
def test_attention_and_index_in_triton(topk: int | None) -> None:
    pytest.importorskip("triton")
    rows, model = [(20, 1, 16), (3, 34)], warmed(compress_ratios=(4,), engram=None)
    model, batch = on_device(model, batch_of(rows, 5))
    with use(Body.REFERENCE):
        wanted = stepped(model, documents_of(batch, rows), topk=topk)
    with interpreted("sparse_attention", "index_topk"):
        equal(stepped(model, [batch], topk=topk, recompute=topk is None), wanted)


def test_dense_entries_in_triton() -> None:
    pytest.importorskip("triton")
    rows, model = [(129, 1, 6)], warmed(compress_ratios=(128,), engram=None)
    model, batch = on_device(model, replace(batch_of(rows, 6), dilution=torch.tensor([1.5])))
    with use(Body.REFERENCE):
        wanted = stepped(model, documents_of(batch, rows))
    with interpreted("sparse_attention"):
        equal(stepped(model, [batch]), wanted)


def test_in_triton_too_nothing_of_a_document_reaches_another() -> None:
    """Bit for bit, experts being given: see `tests/model/test_borders.py`."""
    pytest.importorskip("triton")
    model = warmed(hidden_size=32, hc_sinkhorn_iters=2, num_hash_layers=0)
    model, batch = on_device(model, batch_of([SMALL], 7))
    tokens = batch.tokens.flatten()
    chosen = torch.stack([torch.randperm(4)[:2] for _ in tokens]).to(DEVICE)
    controls = Controls(index_topk=1, routing={0: chosen, 1: chosen})
    made = []
    for shift in (0, 3):
        changed = tokens.clone()
        changed[:5] = (changed[:5] + shift) % 32
        changed[6:10] = (changed[6:10] + shift) % 32
        with interpreted(*TRITON):
            made.append(model.logits(model(changed, packed([SMALL], controls=controls, device=DEVICE)).streams))
    assert torch.equal(made[0][5:6], made[1][5:6])
    assert torch.equal(made[0][10:], made[1][10:])
    assert not torch.equal(made[0][:5], made[1][:5])


def test_gradients_of_the_indexer_are_those_of_the_documents() -> None:
    rows, model = [(40, 1, 17, 6)], warmed()
    tokens = batch_of(rows, 8).tokens.flatten()
    params = {n: p for n, p in model.named_parameters() if ".indexer." in n}
    grads = []
    for view in (packed(rows, controls=Controls(index_loss=True)), alone(rows, controls=Controls(index_loss=True))):
        loss = model(tokens, view).reports[1].index_loss
        assert loss is not None
        assert loss.queries > 40
        grads.append(torch.autograd.grad(loss.divergence, list(params.values())))
    for name, one, other in zip(params, *grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_weights_of_first_tokens_count_for_nothing() -> None:
    rows, model = [(9, 1, 6)], warmed(num_nextn_predict_layers=1, compress_ratios=(0, 4, 0))
    batch = batch_of(rows, 9)
    weight = batch.weight.clone()
    weight[0, [0, 9, 10]] = 50.0
    (report, grads), (again, others) = (stepped(model, [replace(batch, weight=w)]) for w in (batch.weight, weight))
    assert torch.equal(report.loss, again.loss)
    assert torch.equal(report.mtp_loss, again.mtp_loss)  # pyright: ignore[reportArgumentType]
    assert all(torch.equal(grad, others[name]) for name, grad in grads.items())


def test_numbers_of_documents_change_nothing() -> None:
    model, batch = warmed(), batch_of([(9, 1, 6)], 10)
    assert batch.document is not None
    named = replace(batch, document=(batch.document % 2) * 7 + 3)
    assert torch.equal(stepped(model, [batch])[0].loss, stepped(model, [named])[0].loss)
