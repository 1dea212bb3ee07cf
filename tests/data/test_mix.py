"""The draw of documents by budget."""

import pytest

from octavo.config.errors import ConfigError
from octavo.data.corpus import COLLECTIONS, write_shard
from octavo.data.mix import MIXES, S_MIX, XS_MIX, chosen_documents
from octavo.data.sources import SOURCES


@pytest.fixture
def corpus(tmp_path):
    for name in ("books", "manual"):
        write_shard(
            [{"id": str(i), "text": f"{name} {i:02d} " + "é" * (40 + i)} for i in range(30)],
            tmp_path / f"{name}.jsonl.gz",
        )
    return tmp_path


def test_budgets_are_kept_and_nearly_used(corpus):
    chosen = list(chosen_documents(corpus, {"books": 1000, "manual": 400}))
    size = {s: sum(len(d.text.encode()) for d in chosen if d.source == s) for s in ("books", "manual")}
    assert 850 < size["books"] <= 1000
    assert 250 < size["manual"] <= 400
    assert [d.source for d in chosen] == sorted(d.source for d in chosen)


def test_the_draw_repeats_and_is_not_the_order_of_the_file(corpus):
    first = [d.id for d in chosen_documents(corpus, {"books": 1500})]
    assert first == [d.id for d in chosen_documents(corpus, {"books": 1500})]
    assert first != sorted(first, key=int)
    assert len(list(chosen_documents(corpus, {"books": 10**9}))) == 30


def test_the_mixes_name_real_sources_and_the_small_one_is_three_quarters_books():
    assert set(S_MIX) == {source.name for source in SOURCES} | set(COLLECTIONS)
    assert set(XS_MIX) < set(S_MIX)
    assert MIXES == {"xs": XS_MIX, "s": S_MIX}
    assert 0.72 < XS_MIX["books"] / sum(XS_MIX.values()) < 0.78


def test_a_budget_of_nothing_is_refused(corpus):
    with pytest.raises(ConfigError, match="books"):
        list(chosen_documents(corpus, {"books": 0}))
