from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from carp.daemon import configfile
from carp_operator.kubectl.documents import Document
from carp_operator.kubectl.manifests import gather
from carp_operator.kubectl.nodes import Nodes
from carp_operator.kubectl.rendering import Rendered, render
from manifests import VIRTUAL_IPS, manifest

if TYPE_CHECKING:
    from pathlib import Path

    from carp.core.config import VhostConfig

POOL = manifest("VirtualIPPool", "lan", {"addresses": ["10.1.1.192/27", "2001:db8::1000/120"]})
PATTERN = "/etc/carp/{vip}.pass"
NOT_HERE = {
    "class e": "no interface whose subnet contains 240.0.0.1",
    "interface name": "has no interface",
    "interface pattern": "has no interface",
    "interface subnet": "has no interface in",
}


def nodes(count: int = 3, interface: str = "") -> Nodes:
    """Return n1 … with both families and every label that the manifests ask for."""
    found = Nodes()
    for n in range(1, count + 1):
        entry = {"name": f"n{n}", "addresses": [f"10.1.2.{n}/16", f"2001:db8::2:{n}/64"]}
        extra = {"interface": interface} if interface else {}
        labels = {"role": "edge", "zone": "a" if n == 2 else "b"}
        found.add_documents([Document("nodes", "document 1", {**entry, **extra, "labels": labels})])
    assert [] == found.problems
    return found


def rendered(*objects: dict[str, Any], on: Nodes | None = None, pattern: str = PATTERN) -> Rendered:
    """Return what becomes of these objects."""
    manifests = gather(Document("f", f"document {n}", data) for n, data in enumerate(objects, 1))
    return render(manifests, on or nodes(), pattern)


def vip(name: str = "a", **spec: Any) -> dict[str, Any]:
    """Return a VirtualIP, 10.1.1.252 if nothing else is said."""
    given = spec if "addressesFrom" in spec else {"addresses": ["10.1.1.252"], **spec}
    return manifest("VirtualIP", name, given)


def vhosts(result: Rendered, node: str) -> list[dict[str, Any]]:
    """Return the vhosts of a node's file."""
    found: list[dict[str, Any]] = yaml.safe_load(result.files[node])["vhosts"]
    return found


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    """The pattern of password files of which that of the VirtualIP a is there."""
    password = tmp_path / "a.pass"
    password.touch(mode=0o600)
    password.write_text("secret")
    return str(tmp_path / "{vip}.pass")


def checked(result: Rendered, folder: Path) -> dict[str, VhostConfig]:
    """Return what carpd reads from the file of each node, which has the VirtualIP a; it refuses nothing."""
    found = {}
    for node, text in result.files.items():
        path = folder / f"{node}.yaml"
        path.write_text(text)
        configs, notes = configfile.load(str(path))
        assert (["a"], []) == ([config.name for config in configs], notes)
        found[node] = configs[0]
    return found


@pytest.mark.parametrize("interface", ["", "eth0"])
@pytest.mark.parametrize("name", [name for name, case in VIRTUAL_IPS.items() if not case.ours])
def test_every_good_manifest(name: str, interface: str, pattern: str, tmp_path: Path) -> None:
    """What the API server takes is rendered to files that carpd takes, or the planner says why not."""
    data = manifest("VirtualIP", "a", VIRTUAL_IPS[name].spec)
    result = rendered(data, POOL, on=nodes(interface=interface), pattern=pattern)
    assert bool(result.problems) != bool(result.files)
    assert all(p.startswith("f: VirtualIP a: ") and "no candidate node" in p for p in result.problems)
    assert not any(config.first_claimant for config in checked(result, tmp_path).values())


@pytest.mark.parametrize("interface", ["", "eth0"])
@pytest.mark.parametrize("name", [name for name, case in VIRTUAL_IPS.items() if not case.ours])
def test_every_good_manifest_with_another_status(
    name: str, interface: str, pattern: str, tmp_path: Path
) -> None:
    """A status that names other addresses than the plan gives files that carpd takes all the same."""
    data = manifest("VirtualIP", "a", VIRTUAL_IPS[name].spec)
    members = [{"name": f"n{n}", "advskew": 20 * n} for n in range(1, 4)]
    data["status"] = {"vhid": 42, "pool": "other", "addresses": ["10.1.1.9"], "nodes": members}
    result = rendered(data, POOL, on=nodes(interface=interface), pattern=pattern)
    for config in checked(result, tmp_path).values():
        assert [["10.1.1.9/32"]] == [[str(a) for a in other.addresses] for other in config.accept]
        assert {b"secret"} == {config.sign.password, *(other.password for other in config.accept)}


def test_a_file() -> None:
    """A file has the comment with its place, and the planner's decision without what only a cluster has."""
    text = rendered(vip(vhid=42), on=nodes(1, "eth0")).files["n1"]
    assert text == (
        "# n1: /etc/carp/carp.yaml\n"
        "vhosts:\n"
        '  - name: "a"\n'
        "    vhid: 42\n"
        "    interface:\n"
        '      name: "eth0"\n'
        "    addresses:\n"
        '      - "10.1.1.252"\n'
        '    passwordFile: "/etc/carp/a.pass"\n'
        "    advbase: 1\n"
        "    advskew: 0\n"
        "    deadRatio: 3\n"
        "    authentication:\n"
        '      mode: "Sealed"\n'
    )


def test_ranks_differ() -> None:
    """Each node has its own advskew, and the preferred one the lowest."""
    preference = {"weight": 50, "matchLabels": {"zone": "a"}}
    result = rendered(vip(nodePreferences=[preference]))
    skews = {node: vhosts(result, node)[0]["advskew"] for node in result.files}
    assert (0, [0, 20, 40]) == (skews["n2"], sorted(skews.values()))


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        (None, "10.1.0.0/16"),
        ({"subnet": "auto"}, "10.1.0.0/16"),
        ({"subnet": "2001:db8::/64"}, "2001:db8::/64"),
    ],
)
def test_interface_without_a_name(interface: dict[str, str] | None, expected: str) -> None:
    """Where only addresses are known the node finds the interface by the subnet."""
    given = {} if interface is None else {"interface": interface}
    assert {"subnet": expected} == vhosts(rendered(vip(**given)), "n1")[0]["interface"]


def test_unicast() -> None:
    """Each node has the others as peers, and names the source that they know it by."""
    (vhost,) = vhosts(rendered(vip(transport={"mode": "Unicast"})), "n1")
    assert {"mode": "Unicast", "peers": ["10.1.2.2", "10.1.2.3"]} == vhost["transport"]
    assert "10.1.2.1" == vhost["source"]


def test_the_order_of_what_is_given_does_not_matter() -> None:
    """The same objects give the same files."""
    objects = [vip(f"v{n}", addresses=[f"10.1.1.{n + 10}"]) for n in range(20)]
    assert rendered(*objects).files == rendered(*reversed(objects)).files


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        (
            [vip(addresses=["10.9.1.1"])],
            "f: VirtualIP a: no candidate node: 3 nodes: has no interface whose subnet",
        ),
        ([vip(addresses=["10.1.2.1"])], "f: VirtualIP a: addresses: 10.1.2.1 is node n1's own address"),
        ([vip(nodeSelector={"matchLabels": {"x": "y"}})], "3 nodes: does not match nodeSelector x=y"),
        ([vip("a"), vip("b")], "f: VirtualIP b: addresses: 10.1.1.252 belongs to the older VirtualIP a"),
        (
            [vip("a", vhid=1), vip("b", vhid=1, addresses=["10.1.2.3", "10.1.1.9"])],
            "f: VirtualIP b: addresses: 10.1.2.3 is node n3's own",
        ),
        (
            [vip("a", vhid=1), vip("b", vhid=1, addresses=["10.1.1.9"])],
            "f: VirtualIP b: vhid: 1 on this segment",
        ),
        (
            [vip(addressesFrom={"pool": "lan"})],
            "f: VirtualIP a: addressesFrom.pool: there is no VirtualIPPool 'lan'",
        ),
    ],
)
def test_what_the_planner_refuses(objects: list[dict[str, Any]], problem: str) -> None:
    """A VirtualIP that is not accepted is a problem, in the words of its condition."""
    result = rendered(*objects)
    assert 1 == len(result.problems)
    assert problem in result.problems[0]


def test_a_broken_pool_is_said_once() -> None:
    """Where the pool itself is wrong, the VirtualIPs that ask for it are not."""
    broken = manifest("VirtualIPPool", "lan", {"addresses": ["x"]})
    assert [] == rendered(vip(addressesFrom={"pool": "lan"}), broken).problems


def test_notes() -> None:
    """What was chosen, who has nothing, and who is alone is said."""
    one = nodes(1)
    one.add_word("n9=192.168.1.1/24")
    assert [
        "f: VirtualIP a: vhid: 144 was chosen; write that into spec, so that it stays",
        "f: VirtualIP a: n1 is its only node: nobody can take over",
        "n9: has no vhost, so no file",
    ] == rendered(vip(), on=one).notes
    chosen = rendered(vip(addressesFrom={"pool": "lan"}, vhid=1), POOL).notes
    assert 1 == len(chosen)
    assert chosen[0].startswith("f: VirtualIP a: addresses: [10.1.1.192, 2001:db8::1000] was chosen; write")
    assert [] == rendered(vip(vhid=1)).notes


def test_a_cluster_keeps_what_it_had() -> None:
    """From a status the vhid, the pool's addresses and the ranks stay."""
    status = {
        "vhid": 7,
        "addresses": ["10.1.1.200", "2001:db8::1005"],
        "nodes": [{"name": "n3", "advskew": 0}, {"name": "n1", "advskew": 20}],
    }
    data = {**vip(addressesFrom={"pool": "lan"}), "status": status}
    result = rendered(data, POOL)
    (first,) = vhosts(result, "n3")
    assert (7, status["addresses"], 0) == (first["vhid"], first["addresses"], first["advskew"])
    assert [] == result.notes


@pytest.mark.parametrize(
    ("pool", "expected"), [("lan", "10.1.1.200"), ("other", "10.1.1.210"), (None, "10.1.1.210")]
)
def test_what_a_pool_gave_stays_when_it_shrinks(pool: str | None, expected: str) -> None:
    """As the controller has it: another list of addresses would be another owner."""
    status = {"vhid": 7, "addresses": ["10.1.1.200"]} | ({} if pool is None else {"pool": pool})
    shrunk = manifest("VirtualIPPool", "lan", {"addresses": ["10.1.1.210-10.1.1.220"]})
    result = rendered({**vip(addressesFrom={"pool": "lan"}), "status": status}, shrunk)
    assert {expected} == {vhosts(result, node)[0]["addresses"][0] for node in ("n1", "n2", "n3")}


def test_a_member_without_an_interface() -> None:
    """A member by its status that has no interface in the subnet is none any more; the others are."""
    status = {"nodes": [{"name": "n9", "advskew": 0}]}
    on = nodes()
    on.add_word("n9=192.168.1.1/24")
    result = rendered({**vip(vhid=1), "status": status}, on=on)
    assert ([], {"n1", "n2", "n3"}) == (result.problems, set(result.files))


def test_what_holds_now_is_not_in_a_file() -> None:
    """A request to hand over, which a cluster carries out once, is none for a file."""
    data = vip(vhid=1)
    data["metadata"]["annotations"] = {"carp.vip/handover": "n1"}
    assert all("demotions" not in vhosts(rendered(data), node)[0] for node in ("n1", "n2", "n3"))


def test_passwords() -> None:
    """Each VirtualIP has a file of its own, named by the pattern; who reads it is known."""
    result = rendered(vip("a"), vip("b", addresses=["10.1.1.9"], maxNodes=1), pattern="/p/{vip}/{vip}")
    assert ("/p/a/a", ["n1", "n2", "n3"]) == result.passwords["a"]
    assert "/p/b/b" == result.passwords["b"][0]
    assert 1 == len(result.passwords["b"][1])
