"""Made-up towns, how often facts are shown, and the questions of the closed-book test."""

from collections import Counter

import pytest

from octavo.data.facts import (
    LINES,
    PASSAGE_LINES,
    TRADES,
    Fact,
    fact_documents,
    fact_questions,
    real_facts,
    town_facts,
)
from octavo.data.facts_wordings import WORDINGS, fill


@pytest.fixture(scope="module")
def towns():
    return town_facts(lambda word: False, shown=40, never=10)


def documents(facts):
    return [row["text"].split("\n") for row in fact_documents(facts)]


def test_towns_have_three_facts_and_names_unlike_each_other(towns):
    assert len(towns) == 150
    assert town_facts(lambda word: False, shown=40, never=10) == towns
    names = [fact.subject for fact in towns[::3]]
    names += [word for fact in towns if fact.relation != "trade" for word in fact.answer.split()]
    assert len(set(names)) == len(names)
    assert all(name.isalpha() and name.istitle() and 5 <= len(name) <= 12 for name in names)
    assert {fact.answer for fact in towns if fact.relation == "trade"} <= set(TRADES)
    groups = Counter((fact.group, fact.exposures) for fact in towns)
    assert groups == {("invented", 2**i): 24 for i in range(5)} | {("never", 0): 30}
    assert not any(fact.asked for fact in towns if fact.group == "never")


def test_a_name_that_other_text_holds_is_not_used(towns):
    taken = {fact.subject.lower() for fact in towns if fact.relation == "river"}
    others = town_facts(taken.__contains__, shown=40, never=10)
    assert not taken & {fact.subject.lower() for fact in others}


def test_a_fact_is_stated_as_often_as_it_says_and_asked_in_trained_wordings_only(towns):
    lines = [line for document in documents(towns) for line in document]
    for fact in towns:
        wording = WORDINGS[fact.relation]
        said = [fill(text, subject=fact.subject, answer=fact.answer) for text in wording.trained_statements]
        counts = Counter(line for line in lines if line in said)
        assert sum(counts.values()) == fact.exposures
        assert max(counts.values(), default=0) - min((counts[text] for text in said), default=0) <= 1
        asked = [line for line in lines if line.startswith("Question:") and f" {fact.subject}" in line
                 and line.endswith(f" Answer: {fact.answer}")]  # fmt: skip
        assert len(asked) == ((fact.exposures + 1) // 2 if fact.asked else 0)
        assert not any(fill(wording.questions[-1], subject=fact.subject) in line for line in asked)
    shown = [fact for fact in towns if fact.group == "invented"]
    assert len(lines) == sum(f.exposures + (f.exposures + 1) // 2 * f.asked for f in shown)
    assert 0.1 < sum(fact.asked for fact in shown) / len(shown) < 0.4


def test_a_document_names_no_subject_twice_and_most_have_eight_lines(towns):
    subjects = {fact.subject for fact in towns}
    found = documents(towns)
    for lines in found:
        names = [subject for line in lines for subject in subjects if subject in line]
        assert len(set(names)) == len(names) == len(lines) <= LINES
    assert sum(len(lines) == LINES for lines in found) > 0.8 * len(found)
    assert documents(towns) == found


def test_questions_come_in_a_seen_and_a_held_out_wording_with_a_passage_that_answers(towns):
    real = real_facts([(f"Land{i}", "capital", f"City{i}") for i in range(100, 200)], lambda relation: 8)
    rows = list(fact_questions([*towns, *real]))
    assert 0 < sum(row["group"] == "real" for row in rows) < 60
    assert sum(row["group"] == "invented" for row in rows) == 240
    assert sum(row["group"] == "never" for row in rows) == 60
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["prompt"].startswith("Question: ")
        assert row["prompt"].endswith("? Answer:")
        lines = row["open_book"].split("\n")
        subject = row["id"].split(":")[1]
        assert len(lines) == PASSAGE_LINES
        told = [line for line in lines if subject in line]
        assert len(told) == 1
        assert row["answer"] in told[0]
    held_out = {w.questions[-1] for w in WORDINGS.values()}
    for row in rows:
        question = row["prompt"].removeprefix("Question: ").removesuffix(" Answer:")
        pattern = question.replace(row["id"].split(":")[1], "{s}")
        assert (pattern in held_out) == (row["wording"] == "held_out")


def test_real_facts_take_their_exposures_from_the_relation():
    (fact,) = real_facts([("Tin", "symbol", "Sn")], {"symbol": 8}.__getitem__)
    assert fact == Fact(subject="Tin", relation="symbol", answer="Sn", group="real", exposures=8, asked=fact.asked)
