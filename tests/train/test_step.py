"""One training step: losses and their reports, accumulation, clipping, skipped steps, balance rule, and the overfit
gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from octavo.cache.view import View
from octavo.model.block import Block
from octavo.model.transformer import Transformer
from octavo.train.optim import OptimConfig
from octavo.train.parallel.ranks import Ranks
from octavo.train.step import Batch, LossWeights, recompute_layers, train_step
from tests.support.training import ROW, fresh, plan_of, random_batch, small_config

FREE = LossWeights(clip=math.inf, balance=0.0)


def gradients(model: Transformer) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def logits_of(model: Transformer, batch: Batch) -> Tensor:
    """[B, S, V] with all entries attended."""
    rows, length = batch.tokens.shape
    view = View.packed(range(0, (rows + 1) * length, length))
    with torch.no_grad():
        return model.logits(model(batch.tokens.flatten(), view).streams).view(rows, length, -1)


def warmed(steps: int = 4, **fields: object) -> tuple:
    """A model past its start, where blocks are still the identity and the head is zero."""
    model, optimizer = fresh(small_config(**fields))
    for i in range(steps):
        train_step(model, optimizer, [random_batch(seed=100 + i)], plan_of(), LossWeights())
    return model, optimizer


def test_first_loss_is_the_logarithm_of_the_vocabulary() -> None:
    model, optimizer = fresh()
    report = train_step(model, optimizer, [random_batch()], plan_of(), LossWeights())
    for loss in (report.loss, report.text_loss, report.answer_loss):
        assert loss.item() == pytest.approx(math.log(32), abs=1e-5)
    assert int(report.skipped) == 0


def test_reported_losses_by_hand() -> None:
    model, optimizer = warmed()
    batch = random_batch(seed=5)
    logits = logits_of(model, batch)[:, :-1]
    targets, weight = batch.tokens[:, 1:], batch.weight[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    report = train_step(model, optimizer, [batch], plan_of(topk=None), LossWeights())
    torch.testing.assert_close(report.loss, (losses * weight).sum() / weight.sum())
    answers = weight == 1.0
    torch.testing.assert_close(report.answer_loss, losses[answers].mean())
    torch.testing.assert_close(report.text_loss, losses[~answers].mean())
    hits = logits.argmax(-1) == targets
    torch.testing.assert_close(report.answer_accuracy, hits[answers].float().mean())


@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_add_up_to_the_whole_gradient(parts: int) -> None:
    whole_model, whole_optimizer = warmed()
    model, optimizer = warmed()
    batch = random_batch(seed=9)
    batch.weight[0] = 0.0  # the parts weigh differently, so that a mean of means would show
    size = 4 // parts
    pieces = [
        Batch(
            tokens=batch.tokens[a : a + size],
            weight=batch.weight[a : a + size],
            positions=batch.positions[a : a + size],
        )
        for a in range(0, 4, size)
    ]
    one = train_step(whole_model, whole_optimizer, [batch], plan_of(), FREE)
    many = train_step(model, optimizer, pieces, plan_of(), FREE)
    torch.testing.assert_close(one.loss, many.loss)
    torch.testing.assert_close(one.index_loss, many.index_loss)
    expected, found = gradients(whole_model), gradients(model)
    assert expected.keys() == found.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=2e-6, msg=name)


def test_recomputed_layers_give_the_same_gradient() -> None:
    kept, kept_optimizer = warmed()
    model, optimizer = warmed()
    recompute_layers(model)
    train_step(kept, kept_optimizer, [random_batch(seed=1)], plan_of(), FREE)
    train_step(model, optimizer, [random_batch(seed=1)], plan_of(), FREE)
    for name, grad in gradients(kept).items():
        assert torch.equal(gradients(model)[name], grad), name


def test_only_the_index_loss_trains_the_indexer() -> None:
    model, optimizer = warmed()
    train_step(model, optimizer, [random_batch()], plan_of(), LossWeights(index=0.0, clip=math.inf))
    indexer = {name: g for name, g in gradients(model).items() if ".indexer." in name}
    assert all(g.abs().max() == 0 for g in indexer.values())
    train_step(model, optimizer, [random_batch()], plan_of(), LossWeights(clip=math.inf))
    indexer = {name: g for name, g in gradients(model).items() if ".indexer." in name}
    assert len(indexer) == 6
    assert all(g.abs().max() > 0 for g in indexer.values())


def test_every_parameter_is_trained() -> None:
    model, optimizer = warmed(num_nextn_predict_layers=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train_step(model, optimizer, [random_batch(8)], plan_of(), LossWeights())
    unmoved = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert unmoved == []


def test_predictor_loss_is_the_token_after_next() -> None:
    model, optimizer = warmed(num_nextn_predict_layers=1)
    batch, rows = random_batch(seed=3), 4
    with torch.no_grad():
        view = View.packed(range(0, (rows + 1) * ROW, ROW))
        streams = model(batch.tokens.flatten(), view).streams
        following = torch.cat((batch.tokens[:, 1:], torch.zeros(rows, 1, dtype=torch.int64)), dim=1).flatten()
        hidden, _ = model.mtp[0].predict(streams, model.embed(following), following, view, model.rotary)
        logits = (hidden @ model.head.weight.T).view(rows, ROW, -1)[:, :-2]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.tokens[:, 2:], reduction="none")
        expected = (losses * batch.weight[:, 2:]).sum() / batch.weight[:, 2:].sum()
    without = train_step_total(model, batch, LossWeights(mtp=0.0, index=0.0, balance=0.0))
    with_it = train_step_total(model, batch, LossWeights(mtp=0.5, index=0.0, balance=0.0))
    torch.testing.assert_close(with_it - without, 0.5 * expected, rtol=1e-4, atol=1e-5)


def weighed(batch: Batch, second: float) -> Batch:
    """The batch with this weight on every row's second token, which the predictor of the token after next never has as
    a target."""
    batch.weight[:, 1] = second
    return batch


@pytest.mark.parametrize("second", [0.0, 0.1, 20.0])
def test_predictor_loss_is_a_mean_over_its_own_targets(second: float) -> None:
    """What only the next-token loss sees must not change the predictor's share."""
    model, _ = warmed(num_nextn_predict_layers=1)
    batch = weighed(random_batch(seed=3), second)
    found = [train_step_total(model, batch, LossWeights(mtp=m, index=0.0, balance=0.0)) for m in (0.0, 1.0)]
    plain = weighed(random_batch(seed=3), 0.0)
    expected = [train_step_total(model, plain, LossWeights(mtp=m, index=0.0, balance=0.0)) for m in (0.0, 1.0)]
    torch.testing.assert_close(found[1] - found[0], expected[1] - expected[0], rtol=1e-4, atol=1e-5)


def test_predictor_without_targets_adds_nothing() -> None:
    model, optimizer = warmed(num_nextn_predict_layers=1)
    batch = random_batch(seed=3)
    batch.weight[:] = 0.0
    report = train_step(model, optimizer, [weighed(batch, 1.0)], plan_of(), LossWeights())
    assert int(report.skipped) == 0
    assert bool(report.grad_norm.isfinite())


class Twins(Ranks):
    """Two ranks that bring the same batches: every sum is twice this rank's part."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(2)


def test_predictor_loss_is_one_mean_over_batches_and_ranks() -> None:
    whole_model, whole_optimizer = warmed(num_nextn_predict_layers=1)
    model, optimizer = warmed(num_nextn_predict_layers=1)
    parts = [weighed(random_batch(2, seed=9), 20.0), random_batch(2, seed=10)]
    parts[1].weight[:] *= 0.1  # the parts weigh differently, so that a mean of means would show
    joined = Batch(
        tokens=torch.cat([p.tokens for p in parts]),
        weight=torch.cat([p.weight for p in parts]),
        positions=torch.cat([p.positions for p in parts]),
    )
    free = LossWeights(clip=math.inf, balance=0.0, index=0.0)
    train_step(whole_model, whole_optimizer, [joined], plan_of(), free)
    train_step(model, optimizer, parts, plan_of(), free, ranks=Twins(count=2))
    found = gradients(model)
    for name, grad in gradients(whole_model).items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=2e-6, msg=name)


def train_step_total(model: Transformer, batch: Batch, weights: LossWeights) -> Tensor:
    """The number that the backward pass starts from."""
    seen: list[Tensor] = []
    backward = Tensor.backward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Tensor, "backward", lambda self, *a, **k: (seen.append(self.detach()), backward(self, *a, **k))[1]
        )
        _, optimizer = fresh(model.config)
        optimizer.parameters = dict(model.named_parameters())
        train_step(model, optimizer, [batch], plan_of(topk=None, rate=0.0), weights)
    (total,) = seen
    return total


def test_gradient_is_clipped_to_the_limit() -> None:
    model, optimizer = warmed()
    report = train_step(model, optimizer, [random_batch()], plan_of(), LossWeights(clip=1e-3))
    norm = torch.stack([g.norm() for g in gradients(model).values()]).norm()
    assert float(report.grad_norm) > 1e-2
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_step_with_a_bad_gradient_changes_nothing_and_is_counted(bad: float) -> None:
    model, optimizer = warmed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: {k: v.clone() for k, v in kinds.items()} for name, kinds in optimizer.state.items()}
    batch = random_batch()
    batch.weight[2, 7] = bad
    report = train_step(model, optimizer, [batch], plan_of(), LossWeights())
    assert int(report.skipped) == 1
    assert optimizer.step_count == 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(v, state[name][k]) for name, kinds in optimizer.state.items() for k, v in kinds.items())
    assert int(train_step(model, optimizer, [random_batch()], plan_of(), LossWeights()).skipped) == 0


def test_router_bias_moves_towards_even_load() -> None:
    model, optimizer = fresh()
    hashed, learned = model.layers
    assert isinstance(hashed, Block)
    assert isinstance(learned, Block)
    counts: list[Tensor] = []
    learned.register_forward_hook(lambda _m, _a, output: counts.append(output[1].load.counts))
    table = hashed.ffn.gate.get_buffer("tid2eid").clone()
    train_step(model, optimizer, [random_batch(2), random_batch(2, seed=1)], plan_of(), LossWeights(bias_speed=0.01))
    total = counts[0] + counts[1]
    expected = 0.01 * torch.sign(total.mean() - total)
    torch.testing.assert_close(learned.ffn.gate.get_buffer("bias"), expected)
    assert expected.any()
    assert torch.equal(hashed.ffn.gate.get_buffer("tid2eid"), table)


def test_overfit_gate() -> None:
    """One small batch of random tokens is learned by heart, and the streams part on the way."""
    model, optimizer = fresh(optim=OptimConfig(matrix_lr=2e-2, embedding_lr=1e-2, table_lr=5e-2))
    batch = random_batch()
    reports = [train_step(model, optimizer, [batch], plan_of(), LossWeights()) for _ in range(60)]
    losses = [report.loss.item() for report in reports]
    assert losses[0] == pytest.approx(math.log(32), abs=0.1)
    assert losses[-1] < 0.1
    assert reports[-1].answer_accuracy.item() > 0.97
    view = View.packed(range(0, 5 * ROW, ROW))
    with torch.no_grad():
        streams = torch.nn.functional.normalize(model(batch.tokens.flatten(), view).streams, dim=-1)
    assert float((streams[:, 0] * streams[:, 1]).sum(-1).mean()) < 0.999


def test_dilution_reaches_the_dense_entries_and_nothing_else() -> None:
    def loss(ratio: int, dilution: Tensor | None) -> float:
        model, optimizer = fresh(small_config(compress_ratios=(0, ratio)))
        for i in range(3):
            train_step(model, optimizer, [random_batch(2, seed=i, length=256)], plan_of(), LossWeights())
        batch = replace(random_batch(2, seed=9, length=256), dilution=dilution)
        return train_step(model, optimizer, [batch], plan_of(), LossWeights()).loss.item()

    many = torch.tensor([4.0, 1.0])
    assert loss(128, torch.zeros(2)) == pytest.approx(loss(128, None), abs=1e-6)
    assert loss(128, many) != loss(128, None)
    assert loss(4, many) == loss(4, None)
