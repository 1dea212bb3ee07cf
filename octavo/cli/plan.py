"""`octavo plan`: what a model, a context and a machine come to, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from octavo.cli.output import put, put_json

if TYPE_CHECKING:
    from octavo.config.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Command:
    """See what fits before loading anything: weights, cache beside other designs, memory, bounds on speed."""

    model: Positional[str]
    """Preset (flash, flash-0731, pro, xs, s), shipped model, folder or hub id."""
    context: str = "1M"
    """Tokens: a number, or with K (1024) or M (1024 x 1024)."""
    hardware: str = "cpu2"
    """cpu2, laptop, h100, h200; x2, x4 or x8 after a GPU for several."""
    main: Literal["fp32", "bf16", "fp8", "fp4"] | None = None
    """Format of the compressed entries; left out: what the model was trained for."""
    index: Literal["fp32", "bf16", "fp8", "fp4"] | None = None
    """Format of the index keys; left out: what the model was trained for."""
    weights: Literal["stored", "fp32", "bf16"] | None = None
    """How the weights are kept in memory."""
    offload_experts: str | None = None
    """Memory, as 8GB, for routed experts that stay on disk; left out: what is there, if not everything fits."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Print the plan."""
        from octavo.engine.plan import plan

        result = plan(
            config_of(self.model),
            self.context,
            self.hardware,
            main=self.main,
            index=self.index,
            weights=self.weights,
            offload_experts=self.offload_experts,
        )
        if self.json:
            return put_json({"model": self.model} | result.as_dict())
        section = None
        for row in result.rows:
            if row.section != section:
                section = row.section
                put(*([""] if section != result.rows[0].section else []), section)
            put(f"  {row.name:<24} {row.value:<34} {row.detail}".rstrip())


def config_of(model: str) -> ModelConfig:
    """The configuration of a folder, a shipped model, a preset or a hub id; of the last only config.json is fetched."""
    from octavo.config.model import ModelConfig
    from octavo.config.presets import preset
    from octavo.engine.locate import locate, shipped

    if Path(model).is_file():
        return ModelConfig.from_json(Path(model))
    if model in shipped() or "/" in model or Path(model).is_dir():
        return ModelConfig.from_json(locate(model, files=("config.json",)) / "config.json")
    return preset(model)
