"""Loading: the official formats bit by bit against transformers' dequantiser, the Hugging Face layout, draft stages,
memory, and every kind of bad checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from octavo.config.counts import stored_tensors
from octavo.config.errors import CheckpointError
from octavo.config.model import ModelConfig, QuantizationConfig
from octavo.kernels import quant
from octavo.model.checkpoint import LoadReport, load_weights, names
from octavo.model.transformer import Transformer
from tests.support.checkpoints import dequantised, official_tensors, stored_config, write_folder
from tests.support.tiny import hf_model, hf_state, random_tensors, stacked_experts, tiny_config, tiny_engram


def empty_model(config: ModelConfig) -> Transformer:
    """The model on the meta device."""
    with torch.device("meta"):
        return Transformer(config)


def load(config: ModelConfig, folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Transformer, LoadReport]:
    """A model with weights, none of them left on the meta device."""
    model = empty_model(config)
    report = load_weights(model, folder, dtype)
    assert not [name for name, value in model.state_dict().items() if value.is_meta]
    return model, report


def assert_holds(model: Transformer, config: ModelConfig, singles: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Every tensor of the model equals the official one, in the dtype that it must have."""
    wanted = stacked_experts(config, singles)
    state = model.state_dict()
    assert set(state) - {"engram_map"} == set(wanted)
    for name, value in wanted.items():
        kind = torch.int64 if names.is_integer(name) else torch.float32 if names.keeps_fp32(name) else dtype
        assert state[name].dtype == kind, name
        assert torch.equal(state[name], value.to(kind)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shards", [1, 4])
def test_official_fp8_with_fp4_experts_is_bit_exact(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    config = stored_config()
    tensors = official_tensors(config)
    tags = {torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e8m0fnu: "F8_E8M0",
            torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}  # fmt: skip
    assert {name: (tags[v.dtype], tuple(v.shape)) for name, v in tensors.items()} == stored_tensors(config)
    model, report = load(config, write_folder(tmp_path / "m", config, tensors, shards), dtype)
    assert_holds(model, config, dequantised(tensors, dtype), dtype)
    assert report.files == shards
    assert report.is_official
    assert (report.skipped, report.notes) == ((), ())
    assert report.model_bytes == sum(value.nbytes for value in model.state_dict().values())


@pytest.mark.parametrize(
    "config",
    [
        stored_config(quantization=None, expert_dtype=None),
        stored_config(expert_dtype="fp8"),
        stored_config(expert_dtype="fp8", quantization=QuantizationConfig(embeddings=True)),
        stored_config(compress_ratios=(0, 4, 0), num_hidden_layers=2, num_nextn_predict_layers=1),
    ],
    ids=["bf16", "base-fp8-experts", "fp8-embeddings", "mtp"],
)
def test_the_other_official_formats(tmp_path: Path, config: ModelConfig) -> None:
    tensors = official_tensors(config)
    model, _ = load(config, write_folder(tmp_path / "m", config, tensors, shards=3))
    assert_holds(model, config, dequantised(tensors, torch.float32), torch.float32)


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8, torch.bfloat16])
def test_scales_as_values_and_as_bytes(tmp_path: Path, kind: torch.dtype) -> None:
    config = stored_config()
    tensors = official_tensors(config)
    other = {
        name: (value.view(torch.uint8) if kind == torch.uint8 else value.to(kind)) if name.endswith(".scale") else value
        for name, value in tensors.items()
    }
    model, _ = load(config, write_folder(tmp_path / "m", config, other))
    assert_holds(model, config, dequantised(tensors, torch.float32), torch.float32)


def test_other_plain_types_and_double_precision(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config, 1)
    folder = write_folder(tmp_path / "m", config, tensors)
    model = empty_model(config)
    load_weights(model, folder, torch.float64)
    wanted = stacked_experts(config, tensors)
    for name, value in model.state_dict().items():
        assert value.dtype == (torch.int64 if names.is_integer(name) else torch.float64), name
        assert torch.equal(value, wanted[name].to(value.dtype)), name
    halves = {name: v if v.dtype == torch.int64 else v.half() for name, v in tensors.items()}
    model, _ = load(config, write_folder(tmp_path / "h", config, halves), torch.float16)
    assert_holds(model, config, halves, torch.float16)


@pytest.mark.parametrize("own_names", [True, False])
def test_what_transformers_saves_is_read(tmp_path: Path, own_names: bool) -> None:
    config = tiny_config()
    tensors = random_tensors(config, 2)
    hf_model(config, tensors).save_pretrained(tmp_path, save_original_format=not own_names)
    read = ModelConfig.from_json(tmp_path)
    model, report = load(read, tmp_path)
    assert_holds(model, config, tensors, torch.float32)
    assert not report.is_official


def test_hugging_face_fp8_with_joined_gate_and_up(tmp_path: Path) -> None:
    config = stored_config(expert_dtype="fp8")
    tensors: dict[str, Tensor] = {}
    wanted = stacked_experts(config, dequantised(official_tensors(config), torch.float32))
    state = hf_state(config, dequantised(official_tensors(config), torch.float32))
    for name, value in state.items():
        official = names.official_name(name)
        if ".experts." in name:  # 96 rows a half: a 128-row tile spans gate and up
            pairs = [quant.fp8_quantize_blocks(matrix) for matrix in value]
            tensors[name] = torch.stack([q.view(torch.uint8) for q, _ in pairs]).view(torch.float8_e4m3fn)
            scales = torch.stack([scale for _, scale in pairs])
            tensors[f"{name}_scale_inv"] = scales.view(torch.float8_e8m0fnu)
            values = torch.stack([quant.fp8_dequantize_blocks(q, scale) for q, scale in pairs])
            if name.endswith("gate_up_proj"):
                wanted[official.replace("w13", "w1")], wanted[official.replace("w13", "w3")] = values.chunk(2, dim=1)
            else:
                wanted[official] = values
        elif official.endswith(("wq_a.weight", "shared_experts.w2.weight")):
            tensors[name], scale = quant.fp8_quantize_blocks(value)
            tensors[f"{name}_scale_inv"] = scale.view(torch.float8_e8m0fnu)
            wanted[official] = quant.fp8_dequantize_blocks(tensors[name], scale)
        else:
            tensors[name] = value.contiguous()
    model, _ = load(config, write_folder(tmp_path / "m", config, tensors, shards=2))
    for name, value in model.state_dict().items():
        assert torch.equal(value, wanted[name].to(value.dtype)), name


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    config = tiny_config(tie_word_embeddings=True)
    tensors = random_tensors(config, 3)
    assert "head.weight" not in tensors
    model, _ = load(config, write_folder(tmp_path / "m", config, tensors))
    assert model.head.weight is model.embed.weight
    assert torch.equal(model.head.weight, tensors["embed.weight"])
    with pytest.raises(CheckpointError, match=r"tensor 'head\.weight' in model\.safetensors is not part of this model"):
        load(config, write_folder(tmp_path / "x", config, tensors | {"head.weight": tensors["embed.weight"].clone()}))


def test_training_flags_and_ids_keep_their_kind(tmp_path: Path) -> None:
    config = tiny_config()
    model, _ = load(config, write_folder(tmp_path / "m", config, random_tensors(config, 3)))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "layers.0.ffn.gate.tid2eid" in dict(model.named_buffers())
    frozen = empty_model(config).requires_grad_(False)
    load_weights(frozen, tmp_path / "m", torch.float32)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


# Engram's map of token ids


def test_engram_map_is_read_or_every_id_is_its_own(tmp_path: Path) -> None:
    config = tiny_config(engram=tiny_engram())
    tensors = random_tensors(config, 4)
    model, _ = load(config, write_folder(tmp_path / "plain", config, tensors))
    assert torch.equal(model.get_buffer("engram_map"), torch.arange(config.vocab_size))
    squeezed = tiny_config(engram=tiny_engram(compressed_vocab_size=300))
    with pytest.raises(CheckpointError, match="missing tensor 'engram_map'"):
        load(squeezed, tmp_path / "plain")
    table = torch.arange(config.vocab_size) % 300
    model, _ = load(squeezed, write_folder(tmp_path / "map", squeezed, tensors | {"engram_map": table}))
    assert torch.equal(model.get_buffer("engram_map"), table)
    with pytest.raises(CheckpointError, match=r"'engram_map' in model\.safetensors holds id 300; ids are 0 to 299"):
        load(squeezed, write_folder(tmp_path / "bad", squeezed, tensors | {"engram_map": table + 1}))


# Draft stages


def mtp_config() -> ModelConfig:
    """One MTP stage."""
    return tiny_config(compress_ratios=(0, 4, 0), num_hidden_layers=2, num_nextn_predict_layers=1)


def test_copies_of_embedding_and_head_inside_mtp_are_skipped(tmp_path: Path) -> None:
    config = mtp_config()
    tensors = random_tensors(config, 5)
    copies = {name: torch.zeros(3) for name in ("mtp.0.emb.tok_emb.weight", "mtp.0.head.weight")}
    model, report = load(config, write_folder(tmp_path / "m", config, tensors | copies))
    assert_holds(model, config, tensors, torch.float32)
    assert set(report.skipped) == set(copies)
    assert report.notes == ("2 copies of embedding and head in draft stages skipped",)


def test_mtp_is_skipped_by_a_model_without_it(tmp_path: Path) -> None:
    config = mtp_config()
    folder = write_folder(tmp_path / "m", config, random_tensors(config, 5))
    plain = config.changed(compress_ratios=(0, 4), num_nextn_predict_layers=0)
    _, report = load(plain, folder)
    assert len(report.skipped) == sum(name.startswith("mtp.") for name in random_tensors(config, 5))
    assert report.notes[0].endswith("(plain MTP, which this model was built without)")


def dspark_config() -> ModelConfig:
    """Three DSpark stages, as in the final Flash release."""
    return tiny_config(
        compress_ratios=(0, 4, 0, 0, 0), num_hidden_layers=2, num_nextn_predict_layers=1, dspark_block_size=5,
        dspark_markov_rank=8, dspark_noise_token_id=3, dspark_target_layer_ids=(0, 1),
    )  # fmt: skip


def test_dspark_is_recognised_and_skipped(tmp_path: Path) -> None:
    config = dspark_config()
    tensors = random_tensors(config, 6)
    drafts = {name for name in tensors if name.startswith("mtp.")}
    assert {"mtp.0.main_proj.weight", "mtp.2.markov_head.markov_w1.weight"} <= drafts
    model, report = load(config, write_folder(tmp_path / "m", config, tensors))
    assert set(report.skipped) == drafts
    assert report.notes == (f"{len(drafts)} tensors of draft stages skipped (DSpark, which is not run)",)
    assert_holds(model, config, {n: v for n, v in tensors.items() if n not in drafts}, torch.float32)


def test_dspark_is_never_loaded_as_mtp(tmp_path: Path) -> None:
    config = dspark_config()
    folder = write_folder(tmp_path / "m", config, random_tensors(config, 6))
    with pytest.raises(CheckpointError, match=r"missing tensor 'mtp\.0\.enorm\.weight'; .* DSpark, the model's are"):
        load(mtp_config(), folder)


def test_dspark_beside_mtp_is_skipped(tmp_path: Path) -> None:
    config = mtp_config()
    tensors = random_tensors(config, 7)
    both = tensors | {"mtp.0.main_norm.weight": torch.ones(4), "mtp.0.markov_head.markov_w1.weight": torch.ones(4)}
    model, report = load(config, write_folder(tmp_path / "m", config, both))
    assert report.notes == ("2 DSpark tensors skipped beside plain MTP",)
    assert_holds(model, config, tensors, torch.float32)


# Bad checkpoints


def drop(name: str) -> Callable[[dict[str, Tensor]], None]:
    """Remove a tensor."""
    return lambda tensors: tensors.__delitem__(name)


def put(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    """Add or replace a tensor."""
    return lambda tensors: tensors.__setitem__(name, value)


def spoil(name: str, byte: int) -> Callable[[dict[str, Tensor]], None]:
    """Set the first byte of a tensor."""
    return lambda tensors: tensors[name].view(-1).view(torch.uint8).__setitem__(0, byte)


A, E = "layers.1.attn", "layers.1.ffn.experts"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop(f"{A}.wq_a.weight"), rf"missing tensor '{A}\.wq_a\.weight'"),
        (drop(f"{E}.2.w3.weight"), rf"missing tensor '{E}\.2\.w3\.weight'"),
        (drop(f"{A}.wq_a.scale"), rf"missing tensor '{A}\.wq_a\.scale', the scale of F8_E4M3 '{A}\.wq_a"),
        (put("layers.7.attn.ape", torch.zeros(1)), r"'layers\.7\.attn\.ape' in model\.safetensors is not part"),
        (put(f"{E}.3.w1.weight", torch.zeros(1)), rf"'{E}\.3\.w1\.weight' in model\.safetensors is not part"),
        (put(f"{A}.kv_norm.scale", torch.zeros(1)), rf"'{A}\.kv_norm\.scale' in model\.safetensors is not part"),
        (put("norm.weight", torch.zeros(161)), r"'norm\.weight' in .* has shape \[161\]; the model needs \[160\]"),
        (put(f"{E}.0.w1.weight", torch.zeros(96, 96, dtype=torch.int8)), r"\[96, 96\]; the model needs \[96, 80\]"),
        (put(f"{E}.0.w1.scale", torch.zeros(96, 4)), r"\[96, 4\]; its weight \[96, 160\] needs \[96, 5\]"),
        (put(f"{A}.wq_a.scale", torch.zeros(2, 2, dtype=torch.int64)), r"scale' in .* has type I64; a scale"),
        (put("norm.weight", torch.zeros(160, dtype=torch.int64)), r"has type I64; \[160\] must be"),
        (put("norm.weight", torch.zeros(160).to(torch.float8_e4m3fn)), r"'norm\.weight' in .* has type F8_E4M3"),
        (put("layers.0.ffn.gate.tid2eid", torch.zeros(150, 2)), r"tid2eid' in .* has type F32; \[150, 2\]"),
        (put("layers.0.ffn.gate.tid2eid", torch.full((150, 2), 3)), r"tid2eid' in .* holds id 3; ids are 0 to 2"),
        (put("layers.0.ffn.gate.tid2eid", torch.full((150, 2), -1)), r"tid2eid' in .* holds id -1; ids are 0 to 2"),
        (spoil(f"{A}.wq_a.scale", 255), rf"'{A}\.wq_a\.scale' in model\.safetensors holds a scale that is NaN"),
        (spoil(f"{E}.1.w2.scale", 255), rf"'{E}\.1\.w2\.scale' in model\.safetensors holds a scale that is NaN"),
        (put(f"{A}.wq_a.scale", torch.full((1, 2), -1.0)), rf"'{A}\.wq_a\.scale' in .* or negative"),
        (spoil(f"{A}.wq_a.weight", 0x7F), rf"'{A}\.wq_a\.weight' in model\.safetensors holds a value that is NaN"),
        (put("norm.weight", torch.full((160,), torch.inf)), r"'norm\.weight' in .* holds a value that is NaN, inf"),
    ],
)  # fmt: skip
def test_bad_tensors_are_named(tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], message: str) -> None:
    config = stored_config()
    tensors = official_tensors(config)
    damage(tensors)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(config, write_folder(tmp_path / "m", config, tensors))
    assert "\n" not in str(caught.value)


def test_several_extra_tensors_are_counted_and_nothing_is_loaded(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config, 0) | {"zz.a": torch.zeros(1), "zz.b": torch.zeros(1)}
    folder = write_folder(tmp_path / "m", config, tensors)
    model = empty_model(config)
    with pytest.raises(CheckpointError, match=r"not part of this model \(and 1 more\)"):
        load_weights(model, folder, torch.float32)
    assert all(value.is_meta for value in model.state_dict().values())


def test_values_beyond_the_dtype_are_refused_not_rounded_to_infinity(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config, 0)
    tensors["embed.weight"][3, 3] = 1e30
    folder = write_folder(tmp_path / "m", config, tensors)
    load(config, folder, torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"'embed\.weight' .* too large for torch\.float16"):
        load(config, folder, torch.float16)
    with pytest.raises(CheckpointError, match=r"dtype is torch\.int8"):
        load(config, folder, torch.int8)


def test_a_large_finite_sum_is_no_damage(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config, 0)
    tensors["embed.weight"][:] = 3e38
    model, _ = load(config, write_folder(tmp_path / "m", config, tensors))
    assert torch.equal(model.embed.weight, tensors["embed.weight"])


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config, 0) | {"norm.weight": torch.zeros(32, dtype=torch.complex64)}
    with pytest.raises(CheckpointError, match=r"'norm\.weight' in model\.safetensors has type C64"):
        load(config, write_folder(tmp_path / "m", config, tensors))


def test_a_truncated_shard_names_its_tensor(tmp_path: Path) -> None:
    config = stored_config()
    folder = write_folder(tmp_path / "m", config, official_tensors(config), shards=3)
    shard = folder / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors: truncated, tensor '.+' ends at"):
        load(config, folder)


# Memory

_PEAK = """
import sys, torch
from pathlib import Path
from octavo.config.model import ModelConfig
from octavo.model.checkpoint import load_weights
from octavo.model.transformer import Transformer

def status(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

for folder in sys.argv[1:]:
    config = ModelConfig.from_json(folder)
    with torch.device("meta"):
        model = Transformer(config)
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    before = status("VmRSS")
    report = load_weights(model, Path(folder), torch.float32)
    peak = status("VmHWM") - before
print(peak, report.model_bytes)
"""


def peak_growth(warm_up: Path, folder: Path) -> tuple[int, int]:
    """(bytes by which the resident set grew at its highest while loading `folder`, bytes of the model).

    A fresh process; it loads `warm_up` first, so that code pages of libraries are not counted.
    """
    command = [sys.executable, "-c", _PEAK, str(warm_up), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, model_bytes = map(int, run.stdout.split())
    return peak, model_bytes


@pytest.mark.parametrize("quantised", [True, False])
def test_loading_makes_no_second_copy(tmp_path: Path, quantised: bool) -> None:
    stored = {"quantization": QuantizationConfig(embeddings=True), "expert_dtype": "fp8"}
    same = {"hidden_size": 320} | (stored if quantised else {"quantization": None, "expert_dtype": None})
    small, large = stored_config(**same), stored_config(**same, vocab_size=12000)
    warm_up = write_folder(tmp_path / "small", small, official_tensors(small))
    folder = write_folder(tmp_path / "large", large, official_tensors(large))
    peak, model_bytes = peak_growth(warm_up, folder)
    assert model_bytes > 30 * 2**20
    assert peak < model_bytes + 11 * 2**20  # the embedding has 15 MiB, one plain file of it 7; measured: 6 MiB over
