"""Log lines about what lasts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from carp_operator.agent.troubles import Troubles

if TYPE_CHECKING:
    import pytest


def test_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each change of a problem is one line, and its end is one; subjects do not mix."""
    caplog.set_level(logging.INFO)
    troubles = Troubles()
    for subject, problem in [
        *(("api", ""), ("api", "down"), ("api", "down"), ("disk", "full")),
        *(("api", "slow"), ("api", ""), ("api", ""), ("api", "down")),
    ]:
        troubles.set(subject, problem)
    assert ["api: down", "disk: full", "api: slow", "api: fine again", "api: down"] == caplog.messages
