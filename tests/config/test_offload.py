"""How memory for experts on disk is divided."""

import pytest

from octavo.config.errors import LimitError
from octavo.config.offload import divide


@pytest.mark.parametrize(
    ("budget", "hot", "reserve"),
    [
        (200, 0, 200),  # the least: two layers of a token
        (400, 200, 200),
        (1000, 750, 250),  # a quarter
        (9000, 8200, 800),  # at most four times the least
        (10_000, 10_000, 800),  # all of them: nothing needs to stay free
    ],
)
def test_a_budget_is_divided(budget: int, hot: int, reserve: int) -> None:
    made = divide(budget, total_bytes=10_000, token_bytes=100)
    assert (made.hot, made.reserve) == (hot, reserve)


def test_less_than_a_token_needs_in_two_layers_is_refused() -> None:
    with pytest.raises(LimitError, match="offload_experts is 199 bytes; it must be at least 200, the experts"):
        divide(199, total_bytes=10_000, token_bytes=100)
