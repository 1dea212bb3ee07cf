"""TensorBoard's files: scalars by step, lists one by one, events as texts, and its absence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.train.board import Board, show

# what torch and TensorBoard import warns of NumPy's and of protobuf's future
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_what_the_log_says_is_read_back(tmp_path: Path) -> None:
    lines = (
        {"step": 9, "stage": "dense", "loss": 2.5, "churn": [0.25, 0.5], "other_routing": True},
        {"event": "spike", "step": 12, "why": "loss 9 is above 2", "back_to": None},
        {"step": 19, "stage": "dense", "loss": 2.25},
    )
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 29, "lo')
    show(tmp_path)
    folder = show(tmp_path)  # anew, not twice
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    assert [(s.step, s.value) for s in read.Scalars("loss")] == [(9, 2.5), (19, 2.25)]
    assert read.Scalars("churn/1")[0].value == 0.5
    assert read.Scalars("other_routing")[0].value == 1.0
    assert read.Tags()["tensors"] == ["events/text_summary"]
    assert b"loss 9 is above 2" in read.Tensors("events/text_summary")[0].tensor_proto.string_val[0]


def test_absence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'octavo\[tensorboard\]'"):
        Board(tmp_path)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="log.jsonl is no file"):
        show(tmp_path)
