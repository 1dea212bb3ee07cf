"""Numbers of a service, for those who watch it.

Covers: the values, and what a job that is over adds to them. Does not cover: counting what goes on now (`service`),
showing them (`octavo.server.metrics`). Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from octavo.engine.serving.events import Cancelled, Ended, Failed, Last

if TYPE_CHECKING:
    from octavo.kernels.index_topk.clock import IndexSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Numbers of one moment, and totals since the start. drafted_tokens: proposed by the MTP block; accepted_tokens:
    those of them that answers went on with. index: what the process took to choose entries, None on a GPU, where it is
    not measured."""

    running: int = 0
    waiting: int = 0
    reading: int = 0
    swapped: int = 0
    documents: int = 0
    pages_used: int = 0
    pages_total: int = 0
    prefix_pages: int = 0
    page_bytes: int = 0
    ended: int = 0
    cancelled: int = 0
    failed: int = 0
    swaps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draining: bool = False
    index: IndexSeconds | None = None

    def behind(self, event: Last) -> Status:
        """The totals once a job is over."""
        usage = event.usage
        return replace(
            self,
            ended=self.ended + isinstance(event, Ended),
            cancelled=self.cancelled + isinstance(event, Cancelled),
            failed=self.failed + isinstance(event, Failed),
            prompt_tokens=self.prompt_tokens + usage.prompt_tokens,
            cached_tokens=self.cached_tokens + usage.cached_tokens,
            answer_tokens=self.answer_tokens + usage.answer_tokens,
            drafted_tokens=self.drafted_tokens + usage.drafted_tokens,
            accepted_tokens=self.accepted_tokens + usage.accepted_tokens,
        )
