"""Names, shapes and stored types of tensors."""

import pytest

from octavo.config.model import ModelConfig
from octavo.config.presets import flash, flash_0731, pro, xs
from octavo.config.tensors import Part, Storage, TensorSpec, tensor_specs


def find(config: ModelConfig, name: str) -> TensorSpec:
    return next(spec for spec in tensor_specs(config) if name == spec.name)


@pytest.mark.parametrize(
    ("name", "shape", "storage", "scale"),
    [
        ("embed.weight", (129280, 4096), Storage.BF16, None),
        ("hc_head_fn", (4, 16384), Storage.F32, None),
        ("layers.7.hc_attn_fn", (24, 16384), Storage.F32, None),
        ("layers.7.attn.attn_sink", (64,), Storage.F32, None),
        ("layers.7.attn.wq_a.weight", (1024, 4096), Storage.FP8, (8, 32)),
        ("layers.7.attn.wq_b.weight", (32768, 1024), Storage.FP8, (256, 8)),
        ("layers.7.attn.wo_a.weight", (8192, 4096), Storage.FP8, (64, 32)),
        ("layers.7.attn.wo_b.weight", (4096, 8192), Storage.FP8, (32, 64)),
        ("layers.7.attn.compressor.wkv.weight", (512, 4096), Storage.BF16, None),
        ("layers.7.attn.compressor.ape", (128, 512), Storage.F32, None),
        ("layers.8.attn.compressor.wgate.weight", (1024, 4096), Storage.BF16, None),
        ("layers.8.attn.compressor.ape", (4, 1024), Storage.F32, None),
        ("layers.8.attn.compressor.norm.weight", (512,), Storage.BF16, None),
        ("layers.8.attn.indexer.wq_b.weight", (8192, 1024), Storage.FP8, (64, 8)),
        ("layers.8.attn.indexer.weights_proj.weight", (64, 4096), Storage.BF16, None),
        ("layers.8.attn.indexer.compressor.wkv.weight", (256, 4096), Storage.BF16, None),
        ("layers.8.attn.indexer.compressor.ape", (4, 256), Storage.F32, None),
        ("layers.8.ffn.gate.bias", (256,), Storage.F32, None),
        ("layers.2.ffn.gate.tid2eid", (129280, 6), Storage.I64, None),
        ("layers.8.ffn.experts.{}.w1.weight", (2048, 4096), Storage.FP4, (2048, 128)),
        ("layers.8.ffn.experts.{}.w2.weight", (4096, 2048), Storage.FP4, (4096, 64)),
        ("layers.8.ffn.shared_experts.w2.weight", (4096, 2048), Storage.FP8, (32, 16)),
        ("mtp.0.e_proj.weight", (4096, 4096), Storage.FP8, (32, 32)),
        ("mtp.0.hc_head_fn", (4, 16384), Storage.F32, None),
    ],
)
def test_flash(name: str, shape: tuple[int, ...], storage: Storage, scale: tuple[int, int] | None) -> None:
    spec = find(flash(), name)
    assert (spec.shape, spec.storage, spec.scale_shape) == (shape, storage, scale)


def test_pro_experts_are_packed() -> None:
    spec = find(pro(), "layers.9.ffn.experts.{}.w2.weight")
    assert (spec.stored_shape, spec.scale_shape, spec.copies) == ((7168, 1536), (7168, 96), 384)


def test_dspark_stages() -> None:
    config = flash_0731()
    names = {spec.name for spec in tensor_specs(config)}
    assert find(config, "mtp.0.main_proj.weight").scale_shape == (32, 96)
    assert find(config, "mtp.2.markov_head.markov_w1.weight").shape == (129280, 256)
    assert find(config, "mtp.2.confidence_head.proj.weight").shape == (1, 4352)
    assert not names & {"mtp.0.enorm.weight", "mtp.0.e_proj.weight", "mtp.0.norm.weight", "mtp.1.main_proj.weight"}
    assert {"mtp.2.norm.weight", "mtp.2.hc_head_fn", "mtp.1.attn.wkv.weight"} <= names


def test_engram_tensors_by_variant() -> None:
    config = xs()
    assert find(config, "layers.1.engram.table.weight").shape == (32984, 16)
    assert find(config, "layers.1.engram.wkv.weight").shape == (1280, 128)
    engram = config.engram
    assert engram is not None
    assert not any("engram.conv" in spec.name for spec in tensor_specs(config))
    fields = {name: getattr(engram, name) for name in engram.__dataclass_fields__}
    with_conv = config.changed(engram=type(engram)(**(fields | {"variant": "v1"})))
    assert find(with_conv, "layers.1.engram.conv.weight").shape == (1024, 4)
    assert find(with_conv, "layers.1.engram.conv_norm.weight").shape == (4, 256)


def test_hash_layers_have_a_table_instead_of_a_bias() -> None:
    names = {spec.name for spec in tensor_specs(xs())}
    assert "layers.0.ffn.gate.tid2eid" in names
    assert "layers.0.ffn.gate.bias" not in names
    assert "layers.1.ffn.gate.bias" in names


def test_tied_models_have_no_head() -> None:
    tied = {spec.name for spec in tensor_specs(xs().changed(tie_word_embeddings=True))}
    assert {spec.name for spec in tensor_specs(xs())} - tied == {"head.weight"}


def test_bytes_of_one_tensor() -> None:
    fp8 = TensorSpec(name="x.weight", shape=(200, 300), part=Part.ATTENTION, storage=Storage.FP8)
    assert fp8.stored_bytes == 200 * 300 + 2 * 3
    fp4 = TensorSpec(name="x.{}.weight", shape=(10, 64), part=Part.EXPERTS, storage=Storage.FP4, copies=3)
    assert fp4.stored_bytes == 3 * (10 * 32 + 10 * 2)
    assert fp4.names == ("x.0.weight", "x.1.weight", "x.2.weight")
    assert fp4.parameters == 3 * 640
