"""The plain drafter: every proposal is what the predictor says of the whole sequence."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from octavo.cache.view import View
from octavo.engine.drafter import Drafter
from octavo.engine.generation import Generation
from octavo.engine.request import Request
from octavo.model.mtp import MTP
from tests.support.tiny import tiny_engram
from tests.support.tiny_llm import tiny_llm


def test_every_proposal_is_that_of_the_whole_sequence_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The predictor's rows hold what was accepted and nothing else, and positions and tokens are those of training."""
    llm = tiny_llm(tmp_path, num_nextn_predict_layers=1, engram=tiny_engram())
    prompt = torch.randint(16, 380, (100,), generator=torch.Generator().manual_seed(4)).tolist()
    found: list[tuple[int, list[int]]] = []
    own = Drafter.propose

    def propose(self: Drafter, streams: torch.Tensor, following: list[int], *, first: int, count: int) -> list[int]:
        made = own(self, streams, following, first=first, count=count)
        found.append((first + len(following), made))
        return [made[0], *(chance.randrange(16, 380) for _ in made[1:])]

    chance = random.Random(0)
    monkeypatch.setattr(Drafter, "propose", propose)
    made = Generation(llm.runner, llm.tokenizer, llm.new_state(), prompt, Request(max_tokens=60, draft=3))
    made.run()
    ids = torch.tensor(prompt + made.token_ids)
    stage, model = llm.model.mtp[0], llm.model
    assert isinstance(stage, MTP)
    with torch.inference_mode():
        streams = model(ids, View.packed([0, len(ids)])).streams
        for end, drafts in found:
            part, following = streams[:end], ids[1 : end + 1]
            for draft in drafts[:-1]:  # the stage's own streams go on behind the model's
                view = View.packed([0, len(part)])
                after, _ = stage.advance(part, model.embed(following), following, view, model.rotary)
                assert int(model.head(stage.read_out(after[-1:])).argmax()) == draft
                part = torch.cat((part, after[-1:]))
                following = torch.cat((following, torch.tensor([draft])))
    assert len(found) > 50
    assert len({draft for _, drafts in found for draft in drafts}) > 20
