"""Answers that may say only what a grammar allows: JSON, JSON of a schema, a regular expression, a Lark grammar, calls.

Covers: checking grammars of strangers, compiled grammars kept for the next answer, the tokens that may come next.
Does not cover: choosing among them (`octavo.engine.sampler`), cutting an answer short (its caller). Loads no torch.

llguidance does the matching. Some grammars make it compute for minutes, take gigabytes or overflow its stack, which
ends the process, whatever its own limits; so each new grammar is first tried in a child process with less time, memory
and stack than there is here, and only one that passes is compiled here.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.config.errors import TextError, UsageError
from octavo.engine.serving.calls import calls_lark
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.engine.serving.trials import GrammarLimits, Trials, compiled, reason, vocabulary
from octavo.engine.serving.unsaid import Unsaid
from octavo.text.special import Special

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from torch import Tensor

    from octavo.text.tokenizer import Tokenizer

_OPENERS, _CLOSERS = frozenset("[{"), frozenset("]}")
# One space, or a new line and its indentation: a weak model cannot go on with blanks for ever.
_BLANK = r" |\n[ ]{0,40}"
_JSON_OPTIONS: Any = {
    "whitespace_flexible": True,
    "whitespace_pattern": _BLANK,
    "item_separator": ",",
    "key_separator": ":",
    "lenient": False,
    "coerce_one_of": False,
}
_LITERALS = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])*/')


class Grammars:
    """The grammars of one model's answers; may be used by several threads. `close` ends its child process."""

    def __init__(self, tokenizer: Tokenizer, *, eos: int, limits: GrammarLimits | None = None) -> None:
        """`eos`: the token that ends an answer. Raises UsageError for one outside the vocabulary."""
        if not 0 <= eos < tokenizer.vocab_size:
            raise UsageError(f"eos is {eos}; it must be an id below {tokenizer.vocab_size}")
        self.limits = limits or GrammarLimits()
        self.vocab_size, self.eos = tokenizer.vocab_size, eos
        tokens = [tokenizer.token_bytes(token) for token in range(self.vocab_size)]
        controls = [token for token in range(self.vocab_size) if _is_control(tokenizer, token)]
        self._vocabulary = vocabulary(tokens, controls, eos, tokenizer.encode)
        plain = np.array([bool(text) for text in tokens])
        plain[controls] = False
        plain[eos] = True
        self._plain = np.packbits(plain, bitorder="little")
        self.mark = tokenizer.special(Special.DSML)
        plain[self.mark] = True
        self._with_mark = np.packbits(plain, bitorder="little")
        self._make_unsaid = partial(Unsaid, tokens, Special.DSML.encode(), apart=[*controls, eos])
        self._unsaid: Unsaid | None = None
        self._trials = Trials(
            {"tokens": [text.hex() for text in tokens], "controls": controls, "eos": eos}, self.limits
        )
        self._lock = threading.Lock()
        self._known: OrderedDict[Grammar, LLMatcher | str] = OrderedDict()

    def __len__(self) -> int:
        """How many grammars are kept, refused ones included."""
        return len(self._known)

    @property
    def unsaid(self) -> Unsaid:
        """The mark of tool calls, which plain tokens may not spell; made when it is first asked for."""
        with self._lock:
            if self._unsaid is None:
                self._unsaid = self._make_unsaid()
            return self._unsaid

    def check(self, grammar: Grammar) -> None:
        """Compile `grammar`, unless it is known. Raises UsageError that says what is wrong or which limit it breaks,
        BusyError where the process that tries grammars cannot be started."""
        self._compiled(grammar)

    def start(self, grammar: Grammar) -> Matcher:
        """What one answer under `grammar` may say, from its beginning. Raises as `check` does."""
        made, calls = self._compiled(grammar).deep_copy(), grammar.kind is GrammarKind.CALLS
        plain, unsaid = (self._with_mark, self.unsaid) if calls else (self._plain, None)
        return Matcher(made, plain, self.vocab_size, self.eos, partial(self._forget, grammar), unsaid=unsaid)

    def close(self) -> None:
        """End the child process; a later check starts another."""
        self._trials.close()

    def _forget(self, grammar: Grammar) -> None:
        """Copies share the states of their lexer; once those are too many, only compiling anew helps."""
        with self._lock:
            self._known.pop(grammar, None)

    def _compiled(self, grammar: Grammar) -> LLMatcher:
        with self._lock:
            known = self._known.get(grammar)
            if known is not None:
                self._known.move_to_end(grammar)
        if known is None:
            text = _checked(grammar, self.limits, self.mark)  # what is refused here is refused again as cheaply
            known = self._trials.fault(text) or self._compile(text)
            with self._lock:
                self._known[grammar] = known
                while len(self._known) > self.limits.cached:
                    self._known.popitem(last=False)
        if isinstance(known, str):
            raise UsageError(f"grammar ({grammar.kind.value}): {known}")
        return known

    def _compile(self, text: str) -> LLMatcher | str:
        matcher = compiled(self._vocabulary, text, asdict(self.limits))
        return reason(matcher.get_error()) if matcher.is_error() else matcher


class Matcher:
    """One answer under a grammar: which tokens may come next. For one thread at a time."""

    def __init__(
        self, matcher: LLMatcher, plain: np.ndarray, vocab_size: int, eos: int, failed: Callable[[], None], *,
        unsaid: Unsaid | None = None,
    ) -> None:  # fmt: skip
        """Made by `Grammars.start`. plain: bits of the tokens that text may be made of, and of the end. failed: called
        when the grammar breaks a limit on the way. unsaid: a spelling that the answer may not hold."""
        self._matcher, self._plain, self.vocab_size, self.eos = matcher, plain, vocab_size, eos
        self._failed, self._unsaid, self._tail = failed, unsaid, b""
        self._bits: np.ndarray | None = None
        self._over = False

    @property
    def complete(self) -> bool:
        """The answer may end here."""
        return self._over or self._matcher.is_accepting()

    @property
    def ended(self) -> bool:
        """Nothing but EOS may come, or it has come."""
        return self._over or (self._matcher.is_stopped() and not self._matcher.is_error())

    def allowed(self) -> np.ndarray:
        """Bits of the tokens that may come next, uint8 [(vocab_size + 7) // 8], lowest bit first; not to be written.
        None after EOS. Raises UsageError where the grammar has become too costly or lets no token come."""
        if self._bits is None:
            found = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)[: len(self._plain)]
            self._refuse_error()
            self._bits = np.zeros_like(self._plain) if self._over else found & self._plain
            for token in () if self._unsaid is None else self._unsaid.completing(self._tail):
                self._bits[token >> 3] &= ~(1 << (token & 7)) & 0xFF
            if not self._over and not self._bits.any():
                raise UsageError("grammar: no token of the model's vocabulary can go on from here")
        return self._bits

    def mask(self, logits_V: Tensor) -> Tensor:
        """Logits [V], V at least vocab_size, with minus infinity where a token may not come; a new tensor of the same
        dtype and device. Raises as `allowed` does."""
        import torch

        if len(logits_V) < self.vocab_size:
            raise UsageError(f"logits have {len(logits_V)} entries; the vocabulary has {self.vocab_size}")
        may = np.zeros(len(logits_V), dtype=bool)
        may[: self.vocab_size] = np.unpackbits(self.allowed(), count=self.vocab_size, bitorder="little")
        return logits_V.masked_fill(torch.from_numpy(~may).to(logits_V.device), -torch.inf)

    def push(self, token: int) -> None:
        """`token` comes next. Raises UsageError for one that may not, and as `allowed` does; nothing changes then."""
        inside = 0 <= token < self.vocab_size
        if not inside or not self.allowed()[token >> 3] >> (token & 7) & 1:
            raise UsageError(f"grammar: token {token} may not come here")
        self._bits = None
        if self._unsaid is not None:
            self._tail = self._unsaid.after(self._tail, token)
        if token == self.eos:
            self._over = True
        elif not self._matcher.consume_token(token):
            self._refuse_error()

    def forced(self) -> list[int]:
        """Tokens that must come next in any answer, as the tokenizer would cut them; often none."""
        if self._over:
            return []
        if self._matcher.is_stopped() and not self._matcher.is_error():
            return [self.eos]
        return list(self._matcher.compute_ff_tokens())

    def _refuse_error(self) -> None:
        if self._matcher.is_error():
            self._failed()
            raise UsageError(f"grammar: {reason(self._matcher.get_error())}")


def _checked(grammar: Grammar, limits: GrammarLimits, mark: int) -> str:
    """The grammar as llguidance takes it; UsageError for what can be told without compiling. `mark`: of tool calls."""
    from llguidance import LLMatcher

    kind, source = grammar.kind, grammar.source
    name = f"grammar ({kind.value})"
    try:
        length = len(source.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}: its source has a lone surrogate at character {error.start}") from None
    if length > limits.source_bytes:
        raise UsageError(f"{name}: its source has {length:,} bytes; at most {limits.source_bytes:,} are read")
    if kind is GrammarKind.JSON:
        if source:
            raise UsageError(f"{name}: its source is {source[:40]!r}; it must be empty")
        return LLMatcher.grammar_from_json_schema('{"type":"object"}', overrides=_JSON_OPTIONS)
    if not source:
        raise UsageError(f"{name}: its source is empty")
    if kind is GrammarKind.REGEX:
        return LLMatcher.grammar_from_regex(source)
    if kind is GrammarKind.LARK:
        if "<" in _LITERALS.sub("", source):
            raise UsageError(f"{name}: it names tokens in <>; an answer is made of text, without control tokens")
        return LLMatcher.grammar_from_lark(source)
    _check_schema(name, source, limits)
    if kind is GrammarKind.CALLS:
        try:
            return LLMatcher.grammar_from_lark(calls_lark(source, mark, _JSON_OPTIONS))
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
    try:
        return LLMatcher.grammar_from_json_schema(source, overrides=_JSON_OPTIONS)
    except ValueError as error:
        raise UsageError(f"{name}: {reason(str(error))}") from None


def _check_schema(name: str, source: str, limits: GrammarLimits) -> None:
    depth = _depth(source)
    if depth > limits.depth:
        raise UsageError(f"{name}: it is nested {depth:,} deep; at most {limits.depth} is read")
    try:
        schema = json.loads(source, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UsageError(f"{name}: it is no JSON: {reason(str(error))}") from None
    if not isinstance(schema, dict):
        raise UsageError(f"{name}: it is a JSON {type(schema).__name__}; it must be an object")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _depth(source: str) -> int:
    """How deep brackets of JSON text are nested, those within strings left out; without recursion."""
    deepest = depth = 0
    inside = escaped = False
    for character in source:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in _OPENERS:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSERS:
            depth -= 1
    return deepest


def _is_control(tokenizer: Tokenizer, token: int) -> bool:
    """The token is one of those that the vocabulary adds to text."""
    try:
        return tokenizer.special(tokenizer.token_bytes(token).decode("utf-8", errors="replace")) == token
    except TextError:
        return False
