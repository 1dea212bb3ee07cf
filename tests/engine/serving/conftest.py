"""A tiny tokenizer and its grammars."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from octavo.engine.serving.grammar import Grammars
from octavo.text.special import Special
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Iterator[Grammars]:
    made = Grammars(tokenizer, eos=tokenizer.special(Special.EOS))
    yield made
    made.close()
