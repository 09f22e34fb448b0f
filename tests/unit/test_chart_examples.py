"""The examples of deploy/: what no API server looks into."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from carp.daemon import configfile
from carp.daemon.main import parser as daemon_parser
from carp_operator.api import codec
from tree import ROOT

EXAMPLES = ROOT / "deploy" / "examples"
SIDECAR = EXAMPLES / "sidecar"
COMPOSE = yaml.safe_load((SIDECAR / "compose.yaml").read_text(encoding="utf-8"))
POD = yaml.safe_load((SIDECAR / "pod.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]


def _virtual_ips() -> dict[str, dict[str, Any]]:
    """Return each VirtualIP of the examples by file and name."""
    found = {}
    for path in sorted(EXAMPLES.rglob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if each.get("kind") == "VirtualIP":
                found[f"{path.relative_to(EXAMPLES)} {each['metadata']['name']}"] = each
    return found


@pytest.mark.parametrize("name", _virtual_ips())
def test_virtual_ips_are_accepted(name: str) -> None:
    """What only the controller checks is right too."""
    assert None is not codec.virtual_ip(_virtual_ips()[name]).spec


def test_names_and_addresses_differ() -> None:
    """All examples can be applied to one cluster."""
    found = _virtual_ips()
    names = [each["metadata"]["name"] for each in found.values()]
    addresses = [a for each in found.values() for a in each["spec"].get("addresses", ())]
    assert len(names) == len(set(names))
    assert len(addresses) == len(set(addresses))


def test_sidecar_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`carp` takes it without a warning, and gives the address up when the check fails."""
    monkeypatch.setattr(configfile, "read_password_file", lambda path: (b"example", []))
    settings = yaml.safe_load((SIDECAR / "carp.yaml").read_text(encoding="utf-8"))
    (config,), notes = configfile.parse(settings)
    assert ("web", "Release", []) == (config.name, config.when_all_fail.value, notes)


def test_sidecar_check_is_what_haproxy_answers() -> None:
    """The URL of the check is one that haproxy.cfg serves."""
    text = (SIDECAR / "haproxy.cfg").read_text(encoding="utf-8")
    (vhost,) = yaml.safe_load((SIDECAR / "carp.yaml").read_text(encoding="utf-8"))["vhosts"]
    assert "http://127.0.0.1:8404/healthz" == vhost["healthChecks"][0]["http"]["url"]
    assert "bind 127.0.0.1:8404" in text
    assert "monitor-uri /healthz" in text


def test_sidecar_programs() -> None:
    """Pod and compose file run carpd with options that it has, and with its two capabilities only."""
    compose, pod = COMPOSE["services"]["carp"], POD["containers"][1]
    for words in (compose["command"], pod["command"]):
        assert ["carp", "daemon"] == words[:2]
        assert "/etc/carp/carp.yaml" == daemon_parser().parse_args(words[2:]).config
    assert (["ALL"], ["NET_ADMIN", "NET_RAW"]) == (compose["cap_drop"], compose["cap_add"])
    assert {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]} == pod["securityContext"]["capabilities"]


def test_sidecar_shares_the_network() -> None:
    """HAProxy and carp are in one network namespace that outlives both, and every mount has a source."""
    services = COMPOSE["services"]
    assert {"service:net"} == {services[name]["network_mode"] for name in ("haproxy", "carp")}
    assert ["lan"] == [*services["net"]["networks"]]
    assert True is POD["hostNetwork"]
    volumes = {volume["name"] for volume in POD["volumes"]}
    assert volumes == {mount["name"] for c in POD["containers"] for mount in c["volumeMounts"]}
    for mount in (mount for service in services.values() for mount in service.get("volumes", ())):
        source = mount.partition(":")[0]
        assert source == "./password" or source in COMPOSE["volumes"] or (SIDECAR / source).is_file()


def test_sidecar_haproxy_may_bind_its_ports() -> None:
    """In the node's network a port below 1024 takes uid 0 and the capability for it, and no other one."""
    text = (SIDECAR / "haproxy.cfg").read_text(encoding="utf-8")
    assert ["8404", "80"] == re.findall(r"^ *bind \S*:(\d+)$", text, flags=re.MULTILINE)
    context = POD["containers"][0]["securityContext"]
    assert 0 == context["runAsUser"]
    assert {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]} == context["capabilities"]
