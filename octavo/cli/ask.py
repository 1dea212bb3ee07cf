"""`octavo ask`: an answer from a document or a text, with the places it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from octavo.cli.documents import check_files, open_or_read
from octavo.cli.output import put, put_json, size, source_lines


@dataclass(frozen=True, kw_only=True)
class Command:
    """Ask a document or a text, with the places of the answer.

    An .octavo file opens at once; text files are read first, and nothing of that is kept.
    """

    line: Annotated[Positional[tuple[str, ...]], arg(metavar="FILE [FILE ...] QUESTION")]
    """An .octavo document, or UTF-8 texts (- is standard input); then the question."""
    model: str = "octavo-xs"
    """Shipped model, folder or hub id; a document opens only with the model that read it."""
    weights: Literal["int8"] | None = None
    """int8: large ones rounded; smaller, faster with VNNI. A document opens only with the weights that read it."""
    offload_experts: str | None = None
    """Memory, as 8GB, for routed experts that stay on disk; left out: all are loaded."""
    max_tokens: int = 64
    """Most tokens of the answer."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above it draws."""
    seed: int | None = None
    """Repeats a drawn answer; left out: a new one each time."""
    quote: bool = False
    """Answer in the document's own words only; with neither this nor --no-quote as the model was made for."""
    no_quote: bool = False
    """Answer in any words."""
    draft: int | None = None
    """Tokens that an MTP block drafts a step, 0 to 7; any number gives the same text. Left out: as suits the model."""
    json: bool = False
    """Print one JSON object: answer, sources, usage."""

    def run(self) -> None:
        """Ask and print the answer."""
        import octavo
        from octavo.config.errors import UsageError
        from octavo.engine.request import Request

        if len(self.line) < 2:
            raise UsageError("ask needs a file and a question: octavo ask FILE QUESTION")
        if self.quote and self.no_quote:
            raise UsageError("--quote and --no-quote exclude each other")
        quote = (self.quote or None) if not self.no_quote else False
        *files, question = self.line
        check_files(files)
        options = {name: getattr(self, name) for name in ("max_tokens", "temperature", "seed", "draft")}
        Request(**options)  # a bad option is refused before a model is loaded,
        model = octavo.load(self.model, weights=self.weights, offload_experts=self.offload_experts)
        model.runner.draft_count(self.draft)  # and drafts it cannot make,
        model.question_ids(question)  # or a bad question, before a text is read
        with open_or_read(model, files) as doc:
            answer = doc.ask(question, quote=quote, **options)
            before = doc.usage
        usage = answer.to_dict()["usage"] | {"read_tokens": before.read_tokens, "read_seconds": before.seconds}
        if self.json:
            return put_json(answer.to_dict() | {"usage": usage})
        done = "read" if before.read_tokens else "opened"
        took = f"({len(doc):,} tokens {done} in {before.seconds:.2f} s, {usage['answer_tokens']} made in "
        took += f"{usage['seconds']:.2f} s, {size(usage['cache_bytes'])} of cache)"
        put(answer.text, "", *source_lines(answer.sources), "", took)
