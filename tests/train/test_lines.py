"""What a log line says of a step, and the counts of a run."""

from __future__ import annotations

import json

import pytest
import torch

from octavo.train.lines import Tally, step_line
from octavo.train.step import Batch, LossWeights, train_step
from tests.support.training import fresh, plan_of, random_batch, small_config


def test_line_has_numbers_of_the_step() -> None:
    model, optimizer = fresh()
    batch = random_batch(2)
    kind = (torch.arange(64).reshape(2, 32) % 3 == 0).to(torch.uint8) * 2
    given = Batch(tokens=batch.tokens, weight=batch.weight, positions=batch.positions, kind=kind)
    report = train_step(model, optimizer, [given], plan_of(rate=0.5), LossWeights())
    line = step_line(report, plan_of(rate=0.5))
    json.dumps(line)
    assert (line["stage"], line["rate"], line["row"], line["topk"]) == ("test", 0.5, 32, 4)
    assert line["loss"] == report.loss.item()
    assert line["quotation"] == pytest.approx(line["accuracy"])
    assert "fact" not in line
    assert "mtp" not in line


def test_predictor_is_told_where_there_is_one() -> None:
    model, optimizer = fresh(small_config(num_nextn_predict_layers=1))
    report = train_step(model, optimizer, [random_batch(2)], plan_of(), LossWeights())
    assert step_line(report, plan_of())["mtp"] > 0


def test_tally_counts_skipped_steps_and_goes_on() -> None:
    model, optimizer = fresh()
    tally, twin = Tally(), Tally()
    tally.add(train_step(model, optimizer, [random_batch(1)], plan_of(), LossWeights()))
    with torch.no_grad():
        model.embed.weight[:] = torch.nan
    tally.add(train_step(model, optimizer, [random_batch(1)], plan_of(), LossWeights()))
    twin.restore(*tally.state())
    assert (twin.skipped, twin.computed) == (1, 2)
