"""Rotary-position fields of a config file. Covers: `rope_scaling`, Hugging Face's nested `rope_parameters`, and the
short names of the release. Not here: the frequencies themselves (kernels/rope)."""

from typing import Any

from octavo.config.errors import ConfigError
from octavo.config.model import YarnConfig

_YARN_FIELDS = ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow")
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "attention_factor": (1.0, None),
    "mscale": (0, None),
    "mscale_all_dim": (0, None),
    "truncate": (True, None),
}


def read_yarn(rest: dict[str, Any], fields: dict[str, Any], *, short: bool) -> None:
    """Move the rope fields of `rest` (in place) into `fields`: rope_scaling, rope_theta, compress_rope_theta."""
    nested = rest.pop("rope_parameters", None)
    scaling = rest.pop("rope_scaling", None)
    if nested is not None:
        _read_nested(nested, fields)
        for name in ("rope_theta", "compress_rope_theta"):
            rest.pop(name, None)
    elif short:
        fields["rope_scaling"] = _read_short(rest)
    else:
        fields["rope_scaling"] = _read_scaling("rope_scaling", scaling)


def write_yarn(yarn: YarnConfig | None) -> dict[str, Any] | None:
    """The official `rope_scaling` object, or None."""
    if yarn is None:
        return None
    return {"type": "yarn"} | {name: getattr(yarn, name) for name in _YARN_FIELDS}


def _read_nested(nested: Any, fields: dict[str, Any]) -> None:
    if not isinstance(nested, dict) or set(nested) != {"main", "compress"}:
        raise ConfigError(f"rope_parameters is {nested!r}; it must hold exactly main and compress")
    main, compress = dict(nested["main"]), dict(nested["compress"])
    for name, part in (("main", main), ("compress", compress)):
        part.pop("partial_rotary_factor", None)
        if "rope_theta" not in part:
            raise ConfigError(f"rope_parameters.{name} has no rope_theta")
    fields["rope_theta"] = main.pop("rope_theta")
    fields["compress_rope_theta"] = compress.pop("rope_theta")
    if _read_scaling("rope_parameters.main", main) is not None:
        raise ConfigError("rope_parameters.main has YaRN; window-only layers never scale their frequencies")
    fields["rope_scaling"] = _read_scaling("rope_parameters.compress", compress)


def _read_scaling(where: str, scaling: Any) -> YarnConfig | None:
    """A `rope_scaling`-like object; None or kind `default` means no scaling."""
    if scaling is None:
        return None
    if not isinstance(scaling, dict):
        raise ConfigError(f"{where} is {scaling!r}; it must be an object or null")
    values = dict(scaling)
    kinds = {values.pop(name) for name in ("type", "rope_type") if name in values} or {"default"}
    if kinds == {"default"} and not values:
        return None
    if kinds != {"yarn"}:
        raise ConfigError(f"{where} has type {', '.join(sorted(map(str, kinds)))}; only yarn is supported")
    for name, allowed in _NEUTRAL.items():
        if name in values and values[name] not in allowed:
            raise ConfigError(f"{where}.{name} is {values[name]!r}; only {allowed[0]!r} is supported")
        values.pop(name, None)
    unknown = sorted(set(values) - set(_YARN_FIELDS))
    if unknown:
        raise ConfigError(f"unknown {where} fields: {', '.join(unknown)}")
    missing = [name for name in _YARN_FIELDS[:2] if name not in values]
    if missing:
        raise ConfigError(f"missing {where} fields: {', '.join(missing)}")
    return YarnConfig(**values)


def _read_short(rest: dict[str, Any]) -> YarnConfig | None:
    """`original_seq_len` 0 switches YaRN off. The reference code's defaults are not the model's, so none is assumed."""
    names = {"rope_factor": "factor", "original_seq_len": "original_max_position_embeddings"}
    missing = [name for name in names if name not in rest]
    if missing:
        raise ConfigError(f"missing config fields: {', '.join(missing)}")
    values = {names.get(name, name): rest.pop(name) for name in (*names, "beta_fast", "beta_slow") if name in rest}
    return None if values["original_max_position_embeddings"] == 0 else YarnConfig(**values)
