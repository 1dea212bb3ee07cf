"""Shares of the kinds of row and of question, and about how many tokens each question takes.

Covers: `Mix`, its checks. Does not cover: where anything is put (octavo.data.plan), wordings.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.config.errors import ConfigError

# Tokens that a question with its answer takes, about; used to plan how full a row gets.
QUESTION_TOKENS = {
    "fact": 30, "quotation": 46, "speaker": 32, "chapter": 36, "definition": 30, "key_value": 26, "multi_key": 30,
    "multi_value": 46, "two_hop": 36, "two_hop_steps": 44, "tracking": 44, "ordering": 52, "counting": 26,
    "work": 42,
}  # fmt: skip
STATEMENT_TOKENS = 20
# Tokens of statements to one question, of kinds whose answer hangs on more than one.
GROUP_TOKENS = {
    "multi_key": 60, "multi_value": 70, "two_hop": 50, "two_hop_steps": 50, "tracking": 60, "counting": 80,
    "ordering": 10,
}  # fmt: skip
LESSON_SHARES = {
    "dialogue": 0.1, "tool": 0.05, "passage": 0.15, "program": 0.25, "closed_book": 0.22, "open_book": 0.23,
}  # fmt: skip
"""Shares of the kinds of lesson, by number. Tools cost most tokens, so a smaller number of them makes as many tokens;
facts cost least."""
LESSON_KINDS = ("lesson", "program", "closed_book", "open_book")
"""What the answers of lessons are counted as: JavaScript and facts apart from all others."""
LINKED = ("multi_key", "multi_value", "two_hop", "two_hop_steps", "tracking", "ordering", "counting")
"""Kinds whose answer hangs on more than one statement, or on one among many that look alike."""
_PLAY = {"speaker": 0.6, "quotation": 0.25, "fact": 0.15}
_CODE = ("quotation", "tracking")
FOCUS = 0.85
"""Share of the questions of a row with a focus that are of its kind."""
WORK_QUESTIONS = 0.4
"""Share of the questions of a row of several works that ask for the work."""
CODE_DENSITY = 0.5
"""How many questions a row of program text gets, compared with others."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of the kinds of question, and how densely a row is filled.

    Shares from multi_key on are of all questions of a row of prose or of a play; those before them share what is left.
    tokens_per_question: row tokens to one question. burst: share of rows that end in a burst of questions. hard: share
    of statements made as near twins of earlier ones. text_weight: loss weight of text. doubt: share of questions put at
    no border of sentences. tail: share of rows whose questions stand behind everything, in any order, as a document is
    asked. focus: share of rows most of whose questions are of one kind, so that many of its statements lie among each
    other. plain: share of rows that are text alone, without a question, whose loss weight is plain_weight. documents:
    share of those that are whole documents of the pack with borders between them, of `sources` alone where there are
    any. lessons: share of rows that are packed with lessons (octavo.data.lessons), before all others, of `lesson_kinds`
    alone where there are any (one that is named twice has twice its weight). code: share of the other rows that stand
    on program text. work: share of those left that are several books or plays one behind another, each behind a title
    page. Raises ConfigError for linked shares above 0.9 in all, for unknown kinds of lesson, for a share of works that
    is none, and for a weight of text that is not below 1: answers alone weigh 1, which is how they are told.
    """

    fact: float = 0.36
    quotation: float = 0.24
    speaker: float = 0.25
    chapter: float = 0.03
    definition: float = 0.04
    key_value: float = 0.08
    multi_key: float = 0.0
    multi_value: float = 0.0
    two_hop: float = 0.0
    two_hop_steps: float = 0.0
    tracking: float = 0.0
    ordering: float = 0.0
    counting: float = 0.0
    tokens_per_question: float = 110
    burst: float = 0.5
    hard: float = 0.5
    text_weight: float = 0.15
    doubt: float = 0.1
    tail: float = 0.0
    focus: float = 0.0
    plain: float = 0.0
    plain_weight: float = 0.5
    code: float = 0.0
    work: float = 0.0
    lessons: float = 0.0
    documents: float = 0.0
    sources: tuple[str, ...] = ()
    lesson_kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        total = sum(self.linked.values())
        if total > 0.9:
            raise ConfigError(f"linked kinds of question have a share of {total:.2f}; at most 0.9 is possible")
        for name in self.lesson_kinds:
            if name not in LESSON_SHARES:
                raise ConfigError(f"lesson_kinds has {name!r}; there are {', '.join(LESSON_SHARES)}")
        if not 0.0 <= self.work <= 1.0:
            raise ConfigError(f"work is {self.work}; it must be from 0 to 1")
        for name in ("text_weight", "plain_weight"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")

    # In plays three questions of five are for the speaker, one in four for a quotation, the rest for facts.
    @property
    def play_rows(self) -> float:
        """Share of rows that are plays."""
        return min(1.0, self.speaker / 0.6)

    @property
    def bundles(self) -> bool:
        """Whether rows may hold several documents."""
        return self.lessons > 0 or (self.plain > 0 and self.documents > 0)

    @property
    def linked(self) -> dict[str, float]:
        """The shares of linked kinds that are not 0."""
        return {kind: share for kind in LINKED if (share := getattr(self, kind)) > 0}

    def shares(self, *, is_play: bool = False, is_code: bool = False, is_works: bool = False) -> dict[str, float]:
        """Share of each kind among the questions of one row."""
        if is_code:
            return dict.fromkeys(_CODE, 1 / len(_CODE))
        if is_works:
            others = self.shares(is_play=is_play)
            return {kind: share * (1 - WORK_QUESTIONS) for kind, share in others.items()} | {"work": WORK_QUESTIONS}
        linked = self.linked
        rest = 1.0 - sum(linked.values())
        own = _PLAY if is_play else self._prose_shares()
        return {kind: share * rest for kind, share in own.items()} | linked if linked else dict(own)

    def _prose_shares(self) -> dict[str, float]:
        plays = self.play_rows
        left = {
            "fact": max(0.0, self.fact - 0.15 * plays), "quotation": max(0.0, self.quotation - 0.25 * plays),
            "chapter": self.chapter, "definition": self.definition, "key_value": self.key_value,
        }  # fmt: skip
        total = sum(left.values()) or 1.0
        return {kind: share / total for kind, share in left.items()}
