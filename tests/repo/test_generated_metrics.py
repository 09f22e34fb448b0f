from __future__ import annotations

import re

from carp.daemon.metrics import TABLE
from carp_operator.agent.metrics import TABLE as AGENT_TABLE
from carp_operator.controller.counts import METRICS
from tree import ROOT

NAMES = [
    *(family.name for family in TABLE),
    *(family.name for family in AGENT_TABLE),
    *(family.name for family in METRICS),
]


def test_lists_of_metrics_are_what_the_code_exports() -> None:
    """docs/metrics.md has a row for each metric of carpd, agent and controller, and no other row."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert NAMES == re.findall(r"^\| `(carp_\w+)` \|", page, flags=re.MULTILINE)
    assert len(NAMES) == len(set(NAMES))


def test_metrics_named_elsewhere_exist() -> None:
    """Each metric that a document, an alert or the dashboard names is one that is exported."""
    places = [*(ROOT / "docs").glob("*.md"), *(ROOT / "charts" / "carp-operator" / "files").glob("*.*")]
    suffixes = ("_bucket", "_count", "_sum")
    for place in places:
        for name in re.findall(r"\bcarp_[a-z_]+\b", place.read_text(encoding="utf-8")):
            plain = next((name.removesuffix(s) for s in suffixes if name.endswith(s)), name)
            assert name in NAMES or plain in NAMES or name == "carp_operator", (place.name, name)
