"""The chart as helm renders it."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from require import require
from tree import ROOT

CHART = ROOT / "charts" / "carp-operator"
NAMESPACE = "carp-system"
KUBERNETES = "1.34.4"

MATRIX: dict[str, dict[str, Any]] = {
    "default": {},
    "registry and digest": {
        "image": {
            "repository": "registry.example.org:5000/net/carp-operator",
            "digest": f"sha256:{'a' * 64}",
        },
        "imagePullSecrets": [{"name": "registry"}],
    },
    "names": {
        "fullnameOverride": "vip",
        "node": {"agent": {"serviceAccount": {"name": "a", "annotations": {"x.example.org/y": "z"}}}},
        "controller": {"serviceAccount": {"name": "c"}},
    },
    "accounts of somebody else": {
        "node": {"agent": {"serviceAccount": {"create": False, "name": "given-agent"}}},
        "controller": {"serviceAccount": {"create": False, "name": "given-controller"}},
    },
    "two controllers": {"controller": {"replicas": 2}},
    "two controllers placed": {
        "controller": {
            "replicas": 2,
            "affinity": {"nodeAffinity": {}},
            "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
            "tolerations": [],
        }
    },
    "before the pod network": {
        "apiServer": {"endpoints": ["https://10.0.0.1:6443", "https://[2001:db8::1]:6443"]},
        "controller": {"hostNetwork": True, "metrics": {"address": "127.0.0.1"}},
        "test": {"address": "2001:db8::99"},
    },
    "json and budgets": {
        "logFormat": "json",
        "controller": {"writesPerSecond": 2.5, "writeBurst": 5, "replaceAfter": "1m30s", "resync": "10m"},
    },
    "pods watched": {
        "node": {"metrics": {"address": "0.0.0.0"}},
        "monitoring": {"podMonitor": {"enabled": True}, "labels": {"release": "prometheus"}},
    },
    "services watched": {
        "node": {"metrics": {"address": "[::]", "carpdPort": 19108, "agentPort": 19106}},
        "controller": {"metrics": {"address": "[::]", "port": 8080}},
        "rbac": {"aggregateToEdit": True},
        "monitoring": {"serviceMonitor": {"enabled": True}, "interval": "30s"},
    },
    "rules and dashboard": {
        "monitoring": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}},
    },
    "no definitions, no hook, no policy": {
        "crds": {"install": False},
        "rbac": {"aggregateToView": False},
        "uninstall": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
    "closed network": {
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "apiServerPorts": [443, 6443],
        }
    },
    "narrow nodes": {
        "interfaces": ["eth*", "bond0"],
        "commonLabels": {"team": "network"},
        "node": {
            "nodeSelector": {"vip": "yes"},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "stateDir": "/data/carp",
            "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
            "podAnnotations": {"a.example.org/b": "1"},
            "podLabels": {"tier": "net"},
            "carpd": {
                "extraArgs": ["--debug"],
                "extraEnv": [{"name": "TZ", "value": "UTC"}],
                "seccompProfile": {"type": "Localhost", "localhostProfile": "carpd.json"},
                "seLinuxOptions": {"type": "spc_t", "level": "s0:c1,c2"},
            },
            "agent": {"extraEnv": [{"name": "TZ", "value": "UTC"}]},
        },
        "controller": {
            "extraArgs": ["--debug"],
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "podAnnotations": {"a.example.org/b": "1"},
            "podLabels": {"tier": "net"},
        },
        "test": {"address": "192.0.2.99", "timeout": "2m"},
    },
    "one label in several places": {
        "commonLabels": {"team": "network", "release": "all"},
        "node": {
            "podLabels": {"team": "nodes", "app.kubernetes.io/instance": "carp"},
            "podAnnotations": {"kubectl.kubernetes.io/default-container": "agent"},
            "metrics": {"address": "0.0.0.0"},
        },
        "controller": {"podLabels": {"team": "control"}},
        "monitoring": {
            "labels": {"release": "prometheus"},
            "podMonitor": {"enabled": True},
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True, "labels": {"release": "grafana"}},
        },
        "test": {"address": "192.0.2.99/24"},
    },
    "part of another chart": {"global": {"anything": True}},
}
"""Name -> values that go together."""


@cache
def helm() -> str:
    """Return the path of helm; skips the running test, or fails it under REQUIRE_ALL=1, without one."""
    command = [str(ROOT / "tools" / "assets"), "helm"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    require("helm", done.returncode == 0, "tools/assets can neither find nor build it")
    return str(Path(done.stdout.strip()) / "helm")


def run(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart, with values on its standard input."""
    command = [helm(), *arguments, "--values=-"]
    environment = {**os.environ, "HELM_NO_PLUGINS": "1"}
    return subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, check=False, env=environment
    )


class _Strict(yaml.CSafeLoader):
    """Refuses a key that stands twice in one mapping: one of the two values would be lost."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = [(loader.construct_object(key, deep=True), value) for key, value in node.value]
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
    return {key: loader.construct_object(value, deep=True) for key, value in pairs}


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)


def template(values: dict[str, Any] | None = None, *options: str) -> list[dict[str, Any]]:
    """Return the objects that the chart renders to, hooks included."""
    words = ("template", "carp", str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    done = run(*words, *options, values=values)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, _Strict) if each]


def refusal(values: dict[str, Any]) -> str:
    """Return why values are refused; they must be."""
    done = run("template", "carp", str(CHART), "--kube-version", KUBERNETES, values=values)
    assert done.returncode, "the values were taken"
    return done.stderr


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return one object."""
    found = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, [(each["kind"], each["metadata"]["name"]) for each in objects]
    return found[0]


def entry_points() -> set[str]:
    """Return the programs of the distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["scripts"])
