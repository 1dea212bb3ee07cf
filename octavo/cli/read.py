"""`octavo read`: texts become an `.octavo` file. An interrupt keeps what was read; the same line goes on."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from octavo.cli.documents import tokens_kept
from octavo.cli.output import put, put_json, size
from octavo.cli.progress import Meter


@dataclass(frozen=True, kw_only=True)
class Command:
    """Read texts once and keep them folded in an .octavo file.

    Ctrl-C leaves a valid file of what was read, and the same command goes on from there.
    """

    files: Positional[tuple[str, ...]]
    """UTF-8 text files in reading order; - is standard input."""
    output: Annotated[str, arg(aliases=["-o"])]
    """The .octavo file to write, or to go on with."""
    model: str = "octavo-xs"
    """Shipped model, folder or hub id."""
    weights: Literal["int8"] | None = None
    """int8: large ones rounded; smaller, faster with VNNI. A document opens only with the weights that read it."""
    offload_experts: str | None = None
    """Memory, as 8GB, for routed experts that stay on disk; left out: all are loaded."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Read, with progress on stderr, and say what it took."""
        from octavo.config.errors import UsageError

        if not self.files:
            raise UsageError("read needs at least one text file, or - for standard input")
        with Meter("reading") as meter:
            try:
                self._read(meter)
            except KeyboardInterrupt:
                raise SystemExit(self._stopped(meter)) from None

    def _read(self, meter: Meter) -> None:
        import octavo
        from octavo.kernels.index_topk.scan import running

        model = octavo.load(self.model, weights=self.weights, offload_experts=self.offload_experts)
        with model.read([Path(file) for file in self.files], output=self.output, progress=meter) as doc:
            usage, tokens, cache_bytes, file_bytes = doc.usage, len(doc), doc.nbytes, Path(self.output).stat().st_size
            result = {"document": self.output, "model": self.model}
            result |= {"texts": [asdict(entry) for entry in doc.texts.entries], "tokens": tokens}
            result |= {"cache_bytes": cache_bytes, "file_bytes": file_bytes, "usage": asdict(usage)}
            result |= {"index_scan": running()}
            result |= {} if model.experts is None else {"experts": model.experts.report.as_dict()}
        meter.close()
        if self.json:
            return put_json(result)
        again = f" ({usage.reused_tokens:,} of them earlier)" if usage.reused_tokens else ""
        speed = f", {usage.read_tokens / usage.seconds:,.0f} tokens/s" if usage.read_tokens and usage.seconds else ""
        put(
            f"{self.output}: {tokens:,} tokens{again} of {len(self.files)} text(s), {size(file_bytes)}",
            f"cache {size(cache_bytes)}, {usage.seconds:.1f} s{speed}",
            running(),
        )

    def _stopped(self, meter: Meter) -> int:
        meter.close()
        if meter.total == 0:
            print("octavo: interrupted before anything was read", file=sys.stderr)
        else:
            kept = f"{self.output} keeps what was read, {tokens_kept(self.output):,} of {meter.total:,} tokens"
            print(f"octavo: interrupted; {kept}: the same command goes on from there", file=sys.stderr)
        return 130
