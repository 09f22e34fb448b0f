from __future__ import annotations

from carp.daemon.metrics import docs_table
from tree import ROOT

MARK = "<!-- generated from here on: python -m carp.daemon.metrics --docs -->\n\n"


def test_list_of_metrics_is_what_the_code_exports() -> None:
    """The table of docs/metrics.md is the one that the command after the mark prints."""
    _, mark, table = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").partition(MARK)
    assert MARK == mark
    assert docs_table() == table
