"""The table of wordings and filling in."""

import re

from octavo.data.facts_wordings import WORDINGS, fill


def test_every_relation_has_enough_wordings_and_keeps_the_last_ones_for_tests():
    for wording in WORDINGS.values():
        assert len(wording.statements) >= 6
        assert len(wording.questions) >= 4
        assert wording.trained_statements == wording.statements[:-2]
        assert wording.trained_questions == wording.questions[:-1]


def test_a_statement_names_subject_and_answer_once_and_a_question_the_subject_only():
    for wording in WORDINGS.values():
        assert all(sorted(re.findall(r"{.}", text)) == ["{o}", "{s}"] for text in wording.statements)
        assert all(re.findall(r"{.}", text) == ["{s}"] for text in wording.questions)
        assert all(text.endswith("?") for text in wording.questions)
        assert not any(text.endswith("?") for text in wording.statements)


def test_no_wording_occurs_twice():
    texts = [text for wording in WORDINGS.values() for text in (*wording.statements, *wording.questions)]
    assert len(set(texts)) == len(texts)


def test_filling_in():
    assert fill("A {s} is a kind of {o}.", subject="owl", answer="bird") == "An owl is a kind of bird."
    assert fill("{s} lies in {o}.", subject="A", answer="B. C.") == "A lies in B. C."
    assert fill("Who founded {s}?", subject="Prael") == "Who founded Prael?"
