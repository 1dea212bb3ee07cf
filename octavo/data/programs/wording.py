"""A program in English: as one noun phrase, or as steps told in several ways.

Covers: the instruction, names of the function, the comment that holds the instruction and examples. Does not cover:
examples themselves (`compose`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from octavo.data.programs.chain import Chain

_NOUN_SHARE = {0: 0.8, 1: 0.6, 2: 0.45, 3: 0.2, 4: 0.0}
_PHRASES = (
    "Return {n}.",
    "Return {n}.",
    "Compute {n}.",
    "Write a function that returns {n}.",
    "Find {n}.",
    "Give back {n}.",
    "Given {g}, return {n}.",
    "This function takes {g} and returns {n}.",
    "It should return {n}.",
)
_THEN = ("then", "next", "after that")


def instruction(chain: Chain, draw: Random) -> str:
    """What the function does, as one paragraph."""
    if draw.random() < _NOUN_SHARE[len(chain.stages)] and _is_clear(chain):
        noun = chain.source.noun
        for stage in chain.stages:
            noun = stage.noun.format(noun)
        return draw.choice(_PHRASES).format(n=chain.ending.noun.format(noun), g=given(chain))
    clauses = [stage.verb for stage in chain.stages]
    rough = any(";" in clause or "," in clause for clause in clauses)
    return draw.choice((_sentences, _counted) if rough else (_sentences, _sentence, _sentence, _counted))(
        chain, clauses, draw
    )


def _is_clear(chain: Chain) -> bool:
    """Whether one phrase says which stage comes first: what is kept, then "the squares of ..", then one thing more."""
    wrapped = False
    for place, stage in enumerate(chain.stages):
        is_kept = stage.key.startswith("keep")
        if (is_kept and wrapped) or (stage.noun.startswith("{}") and not is_kept and place < len(chain.stages) - 1):
            return False
        wrapped = wrapped or not is_kept
    return True


def given(chain: Chain) -> str:
    """The arguments with what they are."""
    told = [f"{one.about} `{one.name}`" for one in chain.scope.arguments]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _sentence(chain: Chain, clauses: Sequence[str], draw: Random) -> str:
    start = draw.choice(("Take {s}", "From {s}", "Start with {s}", "Use {s}", "Go through {s}")).format(
        s=chain.source.noun
    )
    join = draw.choice((", ", ", ", f", {draw.choice(_THEN)} "))
    body = join.join([start, *clauses])
    return f"{body}{draw.choice((', and ', '; finally ', ', then '))}{chain.ending.verb}."


def _sentences(chain: Chain, clauses: Sequence[str], draw: Random) -> str:
    start = draw.choice(("Take {s}.", "Start with {s}.", "Look at {s}.", "Consider {s}.", "Given {g}: take {s}."))
    told = [start.format(s=chain.source.noun, g=given(chain))]
    for place, clause in enumerate(clauses):
        lead = draw.choice(("Then ", "Next, ", "")) if place else draw.choice(("First, ", ""))
        told.append(_large(f"{lead}{clause}."))
    told.append(_large(f"{draw.choice(('Finally, ', '', 'At the end ', '')) if clauses else ''}{chain.ending.verb}."))
    return " ".join(told)


def _counted(chain: Chain, clauses: Sequence[str], draw: Random) -> str:
    mark = draw.choice(("{}. ", "({}) ", "{}) ", "Step {}: "))
    told = [draw.choice(("take {s}", "begin with {s}")).format(s=chain.source.noun), *clauses, chain.ending.verb]
    return " ".join(f"{mark.format(number)}{_large(clause)}." for number, clause in enumerate(told, 1))


def _large(text: str) -> str:
    return text[0].upper() + text[1:]


def function_name(chain: Chain, draw: Random) -> str:
    """A name after the ending and the values; one in eight says nothing."""
    if draw.random() < 0.12:
        return draw.choice(("work", "process", "transform", "handle", "calculate", "evaluate", "apply", "go"))
    verb, unit = draw.choice(chain.ending.names), _large(chain.source.unit)
    many = unit[:-1] + "ies" if unit.endswith("y") else "People" if unit == "Person" else unit + "s"
    if chain.ending.lines:
        return verb + draw.choice(("", unit, "Value", "It", "Case"))
    tails = (many, many, "", "Of" + many, "All", "Chosen", "From" + many, "Result")
    return verb + draw.choice(tails)


def comment(text: str, examples: Sequence[tuple[str, str]], draw: Random) -> str:
    """The comment before a function. More than half have the form of the other tasks: lines of //, examples with =>."""
    pick = draw.random()
    if pick < 0.6:
        return "".join(f"// {line}\n" for line in (text, *(f"{call} => {result}" for call, result in examples)))
    if pick < 0.7:
        shown = "".join(
            f"// {draw.choice(('Example: ', 'E.g. '))}{call} returns {result}\n" for call, result in examples
        )
        return f"// {text}\n{shown}"
    if pick < 0.8:
        shown = "".join(f" * {call} // {result}\n" for call, result in examples)
        return f"/**\n * {text}\n{shown} */\n"
    if pick < 0.93:
        shown = "".join(f"  >>> {call}\n  {result}\n" for call, result in examples)
        return f"/* {text}\n{shown}*/\n"
    shown = "".join(f"  {call} should be {result}\n" for call, result in examples)
    return f"/*\n  {text}\n{shown}*/\n"
