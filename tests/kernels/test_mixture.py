"""The mixture in one loop, against choice, experts and shared expert as single operations."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import dispatch
from octavo.kernels.experts import experts, mlp
from octavo.kernels.mixture import mixture
from octavo.kernels.pack import Pack
from octavo.kernels.route import route


@pytest.mark.parametrize("T", [1, 3, 8])
@pytest.mark.parametrize("limit", [None, 0.3])
@pytest.mark.parametrize("choice", ["bias", "table", "neither"])
@pytest.mark.parametrize("normalise", [True, False])
@torch.no_grad()
def test_as_by_single_operations(T: int, limit: float | None, choice: str, normalise: bool) -> None:
    torch.manual_seed(T)
    x, gate = torch.randn(T, 8), torch.randn(5, 8)
    routed, shared = (torch.randn(2, 5, 12, 8), torch.randn(5, 8, 12)), (torch.randn(2, 9, 8), torch.randn(8, 9))
    weights = [0.35 * each for each in (gate, *routed[0], routed[1], *shared[0], shared[1])]  # results of about 1
    rules = {
        "top": 2,
        "scale": 1.5,
        "normalise": normalise,
        "bias": torch.randn(5) if choice == "bias" else None,
        "table_rows": torch.randint(0, 5, (T, 2)) if choice == "table" else None,
    }

    def plain() -> torch.Tensor:
        made = route(x, weights[0], **rules)
        w1, w3, w2, s1, s3, s2 = weights[1:]
        out = experts(x, w1, w3, w2, chosen=made.experts, weights=made.weights, limit=limit)
        return out + mlp(x, s1, s3, s2, limit=limit)

    with dispatch.use(dispatch.Body.REFERENCE):
        expected = plain()
        assert torch.equal(mixture(x, Pack.of(*weights), **rules, limit=limit, plain=plain), expected)
    found = mixture(x, Pack.of(*weights), **rules, limit=limit, plain=lambda: torch.zeros(()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_single_operations_run_with_gradients_many_tokens_or_no_pack() -> None:
    mark, rules = torch.ones(()), {"top": 2, "scale": 1.0, "normalise": True, "limit": None}
    pack = Pack.of(*torch.zeros(7, 2, 4))
    assert mixture(torch.zeros(1, 4), pack, **rules, plain=lambda: mark) is mark
    with torch.no_grad():
        assert mixture(torch.zeros(9, 4), pack, **rules, plain=lambda: mark) is mark
        assert mixture(torch.zeros(1, 4), None, **rules, plain=lambda: mark) is mark
