"""The strip of an answer: bins add up to the tally, kinds stay apart, every bin knows its character."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from octavo.cache.view import Controls
from octavo.config.errors import LimitError
from octavo.engine.attention import MassRule, MassTally
from octavo.engine.document import Document
from octavo.engine.mapping import MAX_BINS, attention_map
from octavo.engine.texts import Text
from tests.support.tiny_llm import STORY, tiny_llm


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    llm = tiny_llm(tmp_path_factory.mktemp("model"))
    return llm.read([Text(name="a.txt", text=STORY * 5), Text(name="b.txt", text=STORY * 4)])


def tally_of(document: Document, rule: MassRule) -> MassTally:
    tally = MassTally(document.llm.config, len(document), rule)
    with closing(document.fork()) as state:
        tally.add(document.llm.runner.step(np.arange(20, 40), state, controls=Controls(mass=True)).reports)
    return tally


@pytest.mark.parametrize("bins", [1, 7, 200, MAX_BINS])
def test_bins_add_up_to_each_kind(document: Document, bins: int) -> None:
    tally = tally_of(document, MassRule())
    found = attention_map(tally, document.texts, bins)
    csa, hca = (tally_of(document, MassRule(hca=share)).weights() for share in (0.0, 1.0))
    assert sum(found.csa) == pytest.approx(csa.sum())
    assert sum(found.hca) == pytest.approx((hca - csa).sum())
    assert min(sum(found.csa), sum(found.hca)) > 0
    assert len(found.csa) == len(found.hca) == len(found.starts) <= min(bins, len(document))
    size = -(-len(document) // bins)
    assert found.csa[0] == pytest.approx(csa[:size].sum())
    assert found.csa[-1] == pytest.approx(csa[(len(found.csa) - 1) * size :].sum())


def test_the_tally_stays_and_its_rule_for_hca_is_not_taken(document: Document) -> None:
    tally = tally_of(document, MassRule(hca=0.25))
    before = tally.weights()
    plain = attention_map(tally_of(document, MassRule()), document.texts, 50)
    assert attention_map(tally, document.texts, 50).hca == pytest.approx(plain.hca)
    assert tally.rule == MassRule(hca=0.25)
    assert np.array_equal(tally.weights(), before)


def test_bins_begin_at_characters_of_their_file(document: Document) -> None:
    found = attention_map(tally_of(document, MassRule()), document.texts, 100)
    assert found.starts[0] == ("a.txt", 0)
    files = [file for file, _ in found.starts]
    assert files == sorted(files)
    for name in ("a.txt", "b.txt"):
        chars = [char for file, char in found.starts if file == name]
        assert chars == sorted(chars)
        assert 0 <= chars[0] <= chars[-1] < len(STORY * 5)
    size = -(-len(document) // 100)
    second = document.texts.entries[1]
    bin_of_second = second.first_token // size + 1
    token = bin_of_second * size
    assert found.starts[bin_of_second] == ("b.txt", int(document.texts.starts(second)[token - second.first_token]))


@pytest.mark.parametrize("bins", [0, -3, MAX_BINS + 1])
def test_bad_bins_are_refused(document: Document, bins: int) -> None:
    tally = MassTally(document.llm.config, len(document), MassRule())
    with pytest.raises(LimitError, match=f"bins is {bins}; it must be between 1 and {MAX_BINS}"):
        attention_map(tally, document.texts, bins)


def test_the_plain_form(document: Document) -> None:
    plain = attention_map(tally_of(document, MassRule()), document.texts, 10).to_dict()
    assert plain["files"] == ["a.txt", "b.txt"]
    assert plain["starts"][0] == ["a.txt", 0]
    assert len(plain["csa"]) == len(plain["hca"]) == len(plain["starts"])
