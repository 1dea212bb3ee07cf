"""`octavo generate`: go on with a text."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction

from octavo.cli.output import put_json


@dataclass(frozen=True, kw_only=True)
class Command:
    """Complete a text; the completion is printed while it is made."""

    prompt: Positional[str]
    """The text to go on with; - is standard input."""
    model: str = "octavo-xs"
    """Shipped model, folder or hub id."""
    weights: Literal["int8"] | None = None
    """int8: large ones rounded; smaller, faster with VNNI. Left out: as stored."""
    max_tokens: int = 128
    """Most tokens of the completion."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above it draws."""
    top_p: float = 1.0
    """Draw among the fewest tokens whose probabilities reach this."""
    top_k: int | None = None
    """Draw among this many of the likeliest tokens."""
    min_p: float = 0.0
    """Draw among tokens at least this many times as likely as the likeliest."""
    seed: int | None = None
    """Repeats a drawn completion; left out: a new one each time."""
    stop: Annotated[tuple[str, ...], UseAppendAction] = ()
    """A text that ends the completion; may be given several times."""
    draft: int | None = None
    """Tokens that an MTP block drafts a step, 0 to 7; any number gives the same text. Left out: as suits the model."""
    json: bool = False
    """Print one JSON object at the end: text, finish, seed, usage."""

    def run(self) -> None:
        """Generate and print."""
        import octavo
        from octavo.engine.request import Request
        from octavo.text.plain import plain_text

        names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "draft")
        options = {name: getattr(self, name) for name in names}
        Request(**options)  # a bad option is refused before a model is loaded
        prompt = plain_text(sys.stdin.buffer.read(), name="standard input") if self.prompt == "-" else self.prompt
        model = octavo.load(self.model, weights=self.weights)
        if self.json:
            made = model.generate(prompt, **options)
            result = {"text": made.text, "finish": str(made.finish), "seed": made.seed, "usage": asdict(made.usage)}
            return put_json(result)
        for piece in model.stream(prompt, **options):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
