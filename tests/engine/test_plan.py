"""Plans: published ratios, sums, defaults, and readable units."""

import json
from typing import Any

import pytest

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.config.counts import count
from octavo.config.errors import ConfigError, LimitError, UsageError
from octavo.config.hardware import hardware
from octavo.config.presets import preset, s, xs
from octavo.engine.plan import Plan, format_bytes, parse_context, plan

MILLION = 2**20


def ratios(result: Plan) -> dict[str, float]:
    return {other.name: other.ratio for other in result.comparisons}


@pytest.mark.parametrize(
    ("name", "total", "v32", "gqa"),
    [("flash", "3.69 GB (3.43 GiB)", 0.0732, 0.0200), ("pro", "5.28 GB (4.92 GiB)", 0.1048, 0.0202)],
)
def test_published_ratios(name: str, total: str, v32: float, gqa: float) -> None:
    result = plan(name, "1M", "h200x8")
    assert (result.main, result.index, result.weights) == ("fp8", "fp4", "stored")
    assert format_bytes(result.published_bytes) == total
    assert ratios(result)["DeepSeek-V3.2"] == pytest.approx(v32, abs=5e-5)
    assert ratios(result)["GQA-8 BF16, same layers"] == pytest.approx(gqa, abs=5e-5)
    assert result.published_bytes == result.published_formats_bytes
    assert result.weight_bytes == count(preset(name)).bytes


def test_the_table_shows_the_arithmetic() -> None:
    rows = {(row.section, row.name): row for row in plan("flash", "1M", "h100x8").rows}
    assert rows["cache", "history a token"].value == "3,514.25 B"
    assert rows["compare", "DeepSeek-V3.2"].value == "50.40 GB (46.94 GiB): 7.32%"
    assert rows["compare", "DeepSeek-V3.2"].detail == "61 layers x 788 B = 48068 B a token"
    assert rows["cache", "CSA entries 1/4 (fp8)"].detail == "4096 pages x 64 entries x 21 layers x 584 B"
    assert rows["weights", "all"].value == "159.61 GB (148.65 GiB)"
    assert rows["memory", "all"].detail == "h100x8: fits"


@pytest.mark.parametrize(("machine", "devices"), [("h100", 3), ("h200", 2), ("h100x8", 3)])
def test_devices_that_flash_needs(machine: str, devices: int) -> None:
    result = plan("flash", "1M", machine)
    assert result.devices_needed == devices
    assert result.fits == (hardware(machine).devices >= devices)
    verdict = next(row.detail for row in result.rows if row.section == "memory" and machine in row.detail)
    assert verdict == f"{machine}: " + ("fits" if result.fits else f"does not fit: {devices} such devices needed")


def test_parts_sum_up() -> None:
    for result in (plan("xs"), plan("s", "32K", "h100"), plan("flash", 5000, "cpu2")):
        weights, cache = (sum(line.nbytes for line in lines) for lines in (result.weight_lines, result.cache_lines))
        assert result.weight_bytes + result.cache_bytes + result.buffer_bytes == result.total_bytes
        assert (weights, cache) == (result.weight_bytes, result.cache_bytes)


def test_the_cache_is_the_layout_s() -> None:
    result = plan(xs(), 100_000, "cpu2")
    layout = CacheLayout(xs())
    assert result.cache_bytes == layout.total_bytes(100_000)
    assert result.history_bytes_per_token == layout.bytes_per_token
    assert result.weight_bytes == 4 * count(xs()).total + count(xs()).table_bytes


@pytest.mark.parametrize(
    ("name", "machine", "formats"),
    [
        ("xs", "cpu2", ("fp32", "fp32", "fp32")),
        ("xs", "h100", ("bf16", "bf16", "bf16")),
        ("flash", "cpu2", ("fp8", "fp4", "stored")),
    ],
)
def test_default_formats(name: str, machine: str, formats: tuple[str, str, str]) -> None:
    result = plan(name, "4K", machine)
    assert (result.main, result.index, result.weights) == formats


def test_formats_on_request() -> None:
    result = plan("xs", "1M", main="fp8", index=RowFormat.FP4, weights="stored")
    assert result.history_bytes_per_token == 3 * (168 + 34) / 4 + 2 * 168 / 128
    assert result.weight_bytes == count(xs()).bytes
    assert result.published_bytes == result.published_formats_bytes
    small = plan("flash", "1M", "h200x8", main="fp4")
    assert (small.main, small.index, format_bytes(small.published_bytes)) == ("fp4", "fp4", "2.10 GB (1.96 GiB)")
    exact = plan("xs", "1M")
    assert exact.published_formats_bytes == result.published_bytes < exact.published_bytes


def test_our_models_compare_at_their_own_widths() -> None:
    names = list(ratios(plan(s(), "128K")))
    assert names == ["V3.2-style, same layers", "GQA-8 BF16, same layers"]
    assert "GQA-4 BF16, same layers" in ratios(plan(xs(), "128K"))


def test_speeds_are_bounds_of_bytes_and_arithmetic() -> None:
    result = plan("flash", "4K", "h100", index="fp8")
    assert 1e3 / result.decode_tokens_per_second == pytest.approx(3.80, rel=0.02)
    assert 1e6 / result.prefill_tokens_per_second == pytest.approx(22, rel=0.02)
    assert plan("flash", "4K", "h100", weights="bf16").prefill_tokens_per_second == pytest.approx(1e6 / 36, rel=0.02)
    short, long = (plan("xs", context).decode_tokens_per_second for context in ("4K", "1M"))
    assert short > 2 * long


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("1M", MILLION), ("128k", 131_072), ("4096", 4096), (" 1_000 ", 1000), ("1,048,576", MILLION), (77, 77)],
)
def test_contexts(text: int | str, tokens: int) -> None:
    assert parse_context(text) == tokens


@pytest.mark.parametrize("text", ["", "M", "1.5M", "-3", "ten", "1G", "²", True, None, 1.5])
def test_unreadable_contexts(text: Any) -> None:
    with pytest.raises(UsageError, match="it must be a number of tokens such as 4096, 128K or 1M"):
        parse_context(text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"context": 0}, LimitError, "context is 0 tokens; it must be from 1 to 1048576"),
        ({"context": "2M"}, LimitError, "context is 2097152 tokens"),
        ({"model": "huge"}, ConfigError, "unknown preset"),
        ({"hardware": "abacus"}, ConfigError, "unknown hardware"),
        ({"main": "int3"}, ConfigError, "main is 'int3'; it must be one of fp64, fp32, bf16, fp8, fp4"),
        ({"weights": "int3"}, ConfigError, "weights is 'int3'; it must be one of stored, fp32, bf16"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**({"model": "xs"} | arguments))


def test_json_round_trip() -> None:
    values = plan("xs", "128K").as_dict()
    again = json.loads(json.dumps(values))
    assert again["fits"] is True
    assert again["total_bytes"] == again["weight_bytes"] + again["cache_bytes"] + again["buffer_bytes"]
    assert again["comparisons"][0]["name"] == "V3.2-style, same layers"


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 KB (0.98 KiB)"),
        (2**20, "1.05 MB (1.00 MiB)"),
        (12 * 2**30, "12.88 GB (12.00 GiB)"),
        (10**15, "1000.00 TB (909.49 TiB)"),
    ],
)
def test_units(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text
