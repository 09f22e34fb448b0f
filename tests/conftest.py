from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings

from require import require

if TYPE_CHECKING:
    import pytest

# A busy machine must not fail a property, and a full run must be repeatable; other runs look at new examples.
settings.register_profile("project", deadline=None, derandomize=os.environ.get("REQUIRE_ALL") == "1")
settings.load_profile("project")

# Bits of CapEff that namespaces, links and raw sockets need (linux/capability.h).
_NEEDED = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW", 21: "CAP_SYS_ADMIN"}


def _missing_capabilities() -> list[str]:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return [name for bit, name in _NEEDED.items() if not held >> bit & 1]
    return list(_NEEDED.values())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under REQUIRE_ALL=1 fail, a test marked `root` that lacks a capability."""
    if item.get_closest_marker("root"):
        missing = _missing_capabilities()
        require("root", not missing, f"this process lacks {', '.join(missing)}")
