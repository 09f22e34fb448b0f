"""The chart's alerts and its dashboard."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

import chart
from carp_operator.agent import metrics as agent_metrics
from carp_operator.controller import counts
from tree import ROOT

LONGEST_INTERVAL = 30
"""s between two scrapes at most; templates/checks.yaml."""
SCRAPE_TIMEOUT = 10
"""s, Prometheus' default."""
RUN_TOGETHER = re.compile(r"\$labels\.\w+ \}\}\{\{ \$labels|\}\}\{\{\w+\}\}")
"""Two values with nothing between them."""


def _known_metrics() -> set[str]:
    carpd = re.findall(r"^\| `(carp_\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    families = [*agent_metrics.TABLE, *counts.METRICS]
    names = {*carpd, *(family.name for family in families)}
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_metrics_exist(name: str) -> None:
    """Rules and dashboard use only metrics that carpd, agent or controller have."""
    text = (chart.CHART / "files" / name).read_text(encoding="utf-8")
    used = set(re.findall(r"\bcarp_[a-z_]+\b", text))
    assert used
    assert set() == used - _known_metrics()


def test_rules_and_dashboard_arrive_whole() -> None:
    """What stands in the files is what the cluster gets: no template language of Helm is lost in it."""
    objects = chart.template(chart.MATRIX["rules and dashboard"])
    groups = chart.one(objects, "PrometheusRule", "carp")["spec"]["groups"]
    assert yaml.safe_load((chart.CHART / "files" / "alerts.yaml").read_text()) == groups
    assert all(
        {"alert", "expr", "labels", "annotations"} <= rule.keys() for g in groups for rule in g["rules"]
    )
    data = chart.one(objects, "ConfigMap", "carp-dashboard")["data"]
    assert json.loads((chart.CHART / "files" / "dashboard.json").read_text()) == json.loads(data["carp.json"])


def _rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((chart.CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_members_are_counted_once() -> None:
    """A node that two monitors ask has two series of each address; rules and dashboard count nodes."""
    dashboard = (chart.CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    counting = [rule["expr"] for rule in _rules().values()] + re.findall(r'"expr": "(.*)"', dashboard)
    found = [expr for expr in counting if "count by (vip, vhid)" in expr]
    assert 3 == len(found)
    once = "count by (vip, vhid) (max by (vip, vhid, node, instance) (carp_vip_state"
    assert [] == [expr for expr in found if once not in expr]


def test_times_fit_the_longest_interval() -> None:
    """An ordinary takeover is over for Prometheus before an alert, and each window has four scrapes."""
    rules = _rules()
    for name in ("CarpTwoMasters", "CarpNoMaster", "CarpdUnreachable"):
        assert "1m" == rules[name]["for"]
        assert LONGEST_INTERVAL + SCRAPE_TIMEOUT < 60
    windows = {int(m) * 60 for rule in rules.values() for m in re.findall(r"\[(\d+)m\]", rule["expr"])}
    assert 4 * LONGEST_INTERVAL <= min(windows)
    longest = {"monitoring": {"interval": f"{LONGEST_INTERVAL}s"}}
    assert chart.template(longest)
    assert "is not between 1s and 30s" in chart.refusal({"monitoring": {"interval": "31s"}})


def test_labels_do_not_run_together() -> None:
    """The monitors set `node`, and the Prometheus operator adds `pod`: a text names one, or both apart."""
    for name in ("alerts.yaml", "dashboard.json"):
        assert not RUN_TOGETHER.search((chart.CHART / "files" / name).read_text(encoding="utf-8"))
