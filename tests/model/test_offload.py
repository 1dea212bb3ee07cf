"""Models that do not fit, as users load them: the same answers, documents and names, limits, and files that vanish."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.config.errors import CheckpointError, LimitError, UsageError
from octavo.engine.llm import load
from octavo.model.offload import stored_tensors
from tests.support.tiny import tiny_config, tiny_engram, write_tiny_model
from tests.support.tiny_llm import STORY

IDS = torch.randint(16, 380, (120,), generator=torch.Generator().manual_seed(1))
EXPERTS = 5 * 6 * 3 * 24 * 32 * 4  # bytes of all experts of `tiny_config`, FP32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = tiny_config(max_position_embeddings=4096, engram=tiny_engram())
    return write_tiny_model(tmp_path / "tiny", config, 1)


def test_everything_a_user_does_gives_the_same(folder: Path, tmp_path: Path) -> None:
    resident = load(folder, chunk=64)
    offloaded = load(folder, chunk=64, offload_experts=EXPERTS // 2, offload_engram=True)
    assert torch.equal(offloaded.logits(IDS), resident.logits(IDS))
    assert torch.equal(offloaded.logits(IDS, chunk=16), resident.logits(IDS, chunk=16))
    assert offloaded.generate("The keeper", max_tokens=12).text == resident.generate("The keeper", max_tokens=12).text
    assert offloaded.experts is not None
    assert resident.experts is None
    assert offloaded.experts.report.hits > 0
    assert offloaded.experts.report.peak_bytes <= EXPERTS // 2
    with resident.read(STORY, output=tmp_path / "story.octavo") as read:
        expected = read.ask("Who wrote the date?", max_tokens=8).text
    with offloaded.open(tmp_path / "story.octavo") as opened:  # the document knows its model, wherever its weights are
        assert opened.ask("Who wrote the date?", max_tokens=8).text == expected


def test_what_stays_on_disk_has_the_names_of_parameters(folder: Path) -> None:
    resident = load(folder)
    offloaded = load(folder, offload_experts="1MB", offload_engram=True)
    stored = dict(stored_tensors(offloaded.model))
    missing = {name: value for name, value in resident.model.state_dict().items()
               if name not in offloaded.model.state_dict()}  # fmt: skip
    assert {name: tuple(value.shape) for name, value in stored.items()} == {
        name: tuple(value.shape) for name, value in missing.items()
    }
    assert len(stored) == 5 * 3 + 2
    assert offloaded.fingerprint == resident.fingerprint


def test_engram_alone_goes_with_rounded_weights(folder: Path) -> None:
    both = [load(folder, weights="int8", offload_engram=stays).logits(IDS[:30]) for stays in (False, True)]
    assert torch.equal(*both)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"offload_experts": "8 gigs"}, UsageError, "offload_experts is '8 gigs'; it must be a size such as 8GB"),
        ({"offload_experts": "1KB"}, LimitError, "offload_experts is 1,000 bytes; it must be at least 36,864"),
        ({"offload_experts": "1GB", "device": "cuda"}, UsageError, "offload_experts needs device cpu; this is cuda"),
        ({"offload_engram": True, "device": "cuda"}, UsageError, "offload_engram needs device cpu"),
        ({"offload_experts": "1GB", "weights": "int8"}, UsageError, "offload_experts needs weights as they are stored"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(folder, **options)  # pyright: ignore[reportArgumentType]


def test_weights_that_vanish_are_an_error_that_names_them(folder: Path) -> None:
    model = load(folder, offload_experts=40_000)
    model.logits(IDS[:20])
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"tensor 'layers\.\d\.ffn\.experts\.\d\.w\d\.weight': cannot read .*model"
    ):
        model.logits(IDS[20:40])
