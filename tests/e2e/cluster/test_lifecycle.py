"""The chart on three real kubelets: upgraded, used by hundreds of addresses, uninstalled, installed again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from clusterfix import API, CRDS, NAMESPACE, manifest
from kubecluster import condition
from kuberelease import CHART, Release, tagged

if TYPE_CHECKING:
    from pathlib import Path

    from kubecluster import KubeCluster

pytestmark = [pytest.mark.root, pytest.mark.slow]
ADDRESS = "10.99.0.252"
SCRATCH = "10.99.0.251"
MANY = 200


@pytest.fixture(scope="module")
def installed(kube: KubeCluster) -> Release:
    """Install the chart once for all tests; the nodes know the image under three more names."""
    for node in kube.nodes.values():
        for tag in ("second", "third", "fourth"):
            node.tag(tagged("0.1.0"), tagged(tag))
    release = Release(kube)
    release.install()
    release.serve("web", ADDRESS)
    return release


@pytest.fixture
def release(installed: Release) -> Release:
    """Return the installation with every pod Ready and the address served by one node."""
    installed.settle(ADDRESS)
    installed.wait_served("web")
    return installed


def test_rolling_upgrade(release: Release) -> None:
    """`helm upgrade` to another image replaces one node's pod after the other: no answer is lost."""
    with release.unnoticed(ADDRESS, moves=None):
        took = release.upgrade("--set", "image.tag=second")
    print(f"three nodes upgraded in {took:.1f} s")
    assert {"carp-operator:second"} == _images(release)


def test_resources_upgraded(release: Release, tmp_path: Path) -> None:
    """A chart with newer definitions upgrades them under the objects that exist; they stay and are served."""
    chart = tmp_path / "carp-operator"
    shutil.copytree(CHART, chart)
    path = chart / "files" / "crds" / "virtualips.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('- name: "Pool"', '- name: "Newest"'), encoding="utf-8")
    uid = release.vip("web")["metadata"]["uid"]
    with release.unnoticed(ADDRESS):
        release.upgrade("--set", "image.tag=second", chart=str(chart))
    definition = release.kube.plane.admin.get(f"{CRDS}/virtualips.carp.vip")
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    assert "Newest" in {column["name"] for column in columns}
    assert uid == release.vip("web")["metadata"]["uid"]
    release.wait_served("web")


def test_two_nodes_upgraded(release: Release) -> None:
    """With two nodes only, of which one at a time is away, an upgrade still loses nothing."""
    kube = release.kube
    leaving = next(node for node in sorted(kube.nodes, reverse=True) if node != release.owner(ADDRESS))
    kube.nodes[leaving].power_off()
    kube.plane.kubectl("delete", "node", leaving)
    kube.plane.kubectl(
        "-n", NAMESPACE, "delete", "pods", "--force", f"--field-selector=spec.nodeName={leaving}"
    )
    release.settle(ADDRESS)
    with release.unnoticed(ADDRESS, moves=None):
        release.upgrade("--set", "image.tag=third")
    assert {"carp-operator:third"} == _images(release)
    kube.nodes[leaving].power_on()
    kube.wait(lambda: kube.ready_nodes() == set(kube.nodes), 90, f"{leaving} registered again")


def test_many_addresses(release: Release) -> None:
    """With 200 VirtualIPs a node's pod uses at most 120 MiB."""
    names = [f"many-{number}" for number in range(MANY - 1)]
    kube = release.kube
    kube.apply(*(manifest(name, f"10.99.0.{number + 20}") for number, name in enumerate(names[:150])))
    kube.apply(*(manifest(name, f"fd99::1:{number:x}") for number, name in enumerate(names[150:])))
    kube.wait(lambda: _served(release) == MANY, 120, f"{MANY} VirtualIPs are Ready")
    used = {node: release.memory(node) for node in kube.nodes}
    print(f"PSS of the pods at {MANY} VirtualIPs {used}")
    kube.plane.admin.delete(f"{API}/virtualips?fieldSelector=metadata.name!=web")
    kube.wait(lambda: _told(release) == {"web"}, 120, "the nodes are told of one only")
    assert 120 >= max(used.values())


def test_uninstalled_and_installed_again(release: Release) -> None:
    """`helm uninstall` leaves no address, no state, no object (no pod of `helm test` either) but the kept
    definitions with their objects; installed again, also under another name, they are served again.
    """
    kube = release.kube
    again = [release, Release(kube, "other")]
    for number, following in enumerate(again):
        (release if number == 0 else again[0]).uninstall()
        assert set() == kube.owners(ADDRESS)
        kube.wait(lambda: not _leftovers(release), 30, "nothing of the installation is left")
        assert {} == {
            name: found for name, node in kube.nodes.items() if (found := _kept(node.file("/var/lib/carp")))
        }
        assert "web" == release.vip("web")["metadata"]["name"]
        following.install("--set", f"test.address={SCRATCH}", *(["--take-ownership"] if number else []))
        following.wait_served("web")
        kube.helm("test", following.name, "--namespace", NAMESPACE, "--timeout", "90s")
        assert "pod/carp-test" in _leftovers(following)
        assert 1 == len(kube.owners(ADDRESS))


def _images(release: Release) -> set[str]:
    return {each["image"] for pod in release.pods().values() for each in pod["spec"]["containers"]}


def _served(release: Release) -> int:
    found = release.kube.plane.admin.get(f"{API}/virtualips")["items"]
    return sum(condition(each, "Ready") == "True" for each in found)


def _told(release: Release) -> set[str]:
    found = release.kube.plane.admin.get(f"{API}/carpnodes")["items"]
    return {vhost["name"] for each in found for vhost in each.get("spec", {}).get("vhosts", ())}


def _kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def _leftovers(release: Release) -> set[str]:
    """Return what an installation made and is still there, definitions and VirtualIPs aside."""
    kinds = "pods,deployments,daemonsets,jobs,secrets,configmaps,serviceaccounts,roles,rolebindings,leases"
    fleet = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    kubectl = release.kube.plane.kubectl
    own = kubectl("-n", NAMESPACE, "get", kinds, "-o", "name").stdout.split()
    wide = kubectl("get", f"{fleet},carpnodes", "-o", "name").stdout.split()
    expected = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    return (set(own) - expected) | {name for name in wide if "carp" in name}
