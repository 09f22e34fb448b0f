"""What the agent counts."""

from __future__ import annotations

from carp_operator.agent.metrics import TABLE, Tally


def test_text() -> None:
    """Every family is exported, with the results that are counted."""
    tally = Tally(connected=True, generation=7, confirmed=6, silent=lambda: 1.5)
    tally.applies["done"] += 2
    tally.writes["failed"] += 1
    text = tally.text()
    for line in (
        "carp_agent_carpd_connected 1",
        "carp_agent_api_silence_seconds 1.5",
        "carp_agent_spec_generation 7",
        "carp_agent_confirmed_generation 6",
        'carp_agent_applies_total{result="done"} 2',
        'carp_agent_applies_total{result="refused"} 0',
        'carp_agent_status_writes_total{result="failed"} 1',
    ):
        assert f"{line}\n" in text
    assert all(f"# HELP {family.name} " in text for family in TABLE)
