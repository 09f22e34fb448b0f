"""What the loop works with, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.controller.budget import Budget
    from carp_operator.controller.counts import Counts
    from carp_operator.controller.events import Recorder
    from carp_operator.controller.feed import Feed
    from carp_operator.controller.observer import Observer
    from carp_operator.controller.passwords import Passwords
    from carp_operator.controller.pods import Pods
    from carp_operator.controller.store import Store
    from carp_operator.kube.client import Client


@dataclass(frozen=True, slots=True)
class Parts:
    """The loop's surroundings; ``leads`` says whether we may plan and write."""

    client: Client
    store: Store
    passwords: Passwords
    observer: Observer
    feed: Feed
    budget: Budget
    recorder: Recorder
    counts: Counts
    leads: Callable[[], bool]
    pods: Pods | None = None
    """None: nobody looks at pods."""
