"""An agent between a real API server and a real carpd, on one node of the lab."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentfix import CRDS, NODES, SECRETS, World, vhost
from apifix import _running
from carp_operator.api import crd
from carpd import call
from lanfix import need_lan
from nodefix import Lab, holds, idle, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodefix import Daemon, Program

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a LAN with a control plane on n9."""
    need_lan()
    with Lab() as lab, _running(request.config, tmp_path_factory, lab.node("n9")) as plane:
        yield World(lab, plane)


class Pair:
    """carpd and agent of n1."""

    def __init__(self, world: World, carpd: Daemon, agent: Program) -> None:
        self.world = world
        self.carpd = carpd
        self.agent = agent

    def wait(self, what: str, seconds: float = 10.0, **wanted: object) -> float:
        """Wait until parts of the status of n1 are as wanted, and return how long that took."""
        world = self.world
        found = {"state": lambda: world.state("n1"), "ready": lambda: world.condition("n1", "Ready")}
        found["sync"] = lambda: world.condition("n1", "InSync")
        found["confirmed"] = lambda: world.status("n1").get("observedGeneration")

        def holds() -> bool:
            return all(found[key]() == value for key, value in wanted.items())

        return wait_until(holds, seconds, what, self.agent, self.carpd)

    def generation(self) -> int:
        """Return the generation that carpd has."""
        return int(call(self.world.lab, "n1", "status")["daemon"]["generation"])

    def names(self) -> set[str]:
        """Return the vhosts that carpd has."""
        return {each["name"] for each in call(self.world.lab, "n1", "status")["vhosts"]}


@pytest.fixture
def pair(world: World) -> Iterator[Pair]:
    """Yield n1 with one vhost that is master, and its agent that has said so."""
    world.keys({"web.1": "love"})
    generation = world.spec("n1", vhost())["metadata"]["generation"]
    made = Pair(world, world.carpd("n1").start(), world.agent("n1").start())
    try:
        made.wait(
            "n1 is master and says so", state="MASTER", ready="Serving", sync="Applied", confirmed=generation
        )
        yield made
    finally:
        for program in (made.agent, made.carpd):
            if program.running.poll() is None:
                program.cont()
                program.kill()
        if world.plane.admin.exists(f"{NODES}/n1"):
            world.plane.admin.delete(f"{NODES}/n1")
        for leftover in (world.lab.folder / "n1.state").rglob("*"):
            if not leftover.is_dir():
                leftover.unlink()


def test_status(pair: Pair) -> None:
    """The status tells what a person and the planner need, and nothing secret."""
    status = pair.world.status("n1")
    (web,) = status["vhosts"]
    assert 1 == status["masters"]
    assert ("web", "MASTER", "eth0", "first-claim") == tuple(
        web[key] for key in ("name", "state", "interface", "reason")
    )
    eth0 = next(each for each in status["interfaces"] if each["name"] == "eth0")
    assert {"10.99.0.1/24"} <= set(eth0["addresses"])
    assert eth0["carrier"]
    assert "love" not in str(pair.world.get("n1")) + pair.agent.text


def test_nothing_to_say(pair: Pair) -> None:
    """While nothing changes nothing is written for minutes, the agent is small, and it sleeps."""
    idle(2.0)
    before = pair.world.get("n1")["metadata"]["resourceVersion"]
    process = f"/proc/{pair.agent.running.pid}"
    ticks = _ticks(process)
    idle(15.0)
    assert before == pair.world.get("n1")["metadata"]["resourceVersion"]
    rss = int(Path(process, "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    used = (_ticks(process) - ticks) / os.sysconf("SC_CLK_TCK") / 15.0
    print(f"agent: {rss:.1f} MiB, {100 * used:.2f} % of a core")
    assert rss < 60
    assert used <= 0.002


def _ticks(process: str) -> int:
    fields = Path(process, "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_spec_changes(pair: Pair) -> None:
    """A changed spec reaches carpd at once and is confirmed; a vhost that it lacks goes."""
    world = pair.world
    other = vhost("other", vhid=43, addresses=["10.99.0.251"])
    generation = world.spec("n1", vhost(), other)["metadata"]["generation"]
    taken = pair.wait("both are confirmed", confirmed=generation)
    assert taken < 3
    assert {"web", "other"} == pair.names()
    world.spec("n1", other)
    wait_until(lambda: pair.names() == {"other"}, 10.0, "a vhost that was taken out goes", pair.agent)


def test_state_is_told_at_once(pair: Pair) -> None:
    """A change of state after a quiet second stands in the status within a fraction of one."""
    took = []
    for amount in (40, 50, 60):  # the best of three: a disk may be busy
        idle(1.2)
        call(pair.world.lab, "n1", "demote", name="web", reason="test", amount=amount)
        what = f"'amount': {amount}"
        took.append(wait_until(lambda w=what: w in str(_demotions(pair)), 5.0, what, pair.agent))  # type: ignore[misc]
    print(f"told after {min(took) * 1000:.0f} ms")
    assert min(took) < 0.5


def _demotions(pair: Pair) -> object:
    return pair.world.status("n1")["vhosts"][0].get("demotions")


def test_status_of_somebody_else(pair: Pair) -> None:
    """A status that somebody has emptied is written again, once."""
    world = pair.world
    idle(1.2)
    world.plane.admin.patch(f"{NODES}/n1/status", {"status": None})
    pair.wait("it stands again", 5.0, state="MASTER", ready="Serving", sync="Applied")
    _stays(world)


def _stays(world: World) -> None:
    idle(1.2)
    before = world.get("n1")["metadata"]["resourceVersion"]
    idle(2.5)
    assert before == world.get("n1")["metadata"]["resourceVersion"]


def test_older_definition(pair: Pair) -> None:
    """What the server does not keep of a status is no change by somebody else."""
    world, path = pair.world, f"{CRDS}/carpnodes.{crd.GROUP}"
    definition = world.plane.admin.get(path)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["status"]["properties"]["carpdVersion"]
    world.plane.admin.replace(path, definition)
    try:

        def pruned() -> bool:
            world.plane.admin.patch(f"{NODES}/n1/status", {"status": None})
            wait_until(lambda: world.status("n1"), 5.0, "it is written again", pair.agent)
            return "carpdVersion" not in world.status("n1")

        wait_until(pruned, 20.0, "the definition is served", pair.agent)
        pair.wait("all stands again", 5.0, state="MASTER", ready="Serving", sync="Applied")
        _stays(world)
    finally:
        definition = world.plane.admin.get(path)
        definition["spec"] = crd.definition(crd.CARP_NODE)["spec"]
        world.plane.admin.replace(path, definition)


def test_missing_key(pair: Pair) -> None:
    """A vhost whose password is missing keeps what it has and says so; another is taken; then it heals."""
    world = pair.world
    other = vhost("other", vhid=43, addresses=["10.99.0.251"])
    world.spec("n1", vhost(passwordRef="web.2", advskew=7), other)
    pair.wait("the refusal is told", sync="VhostsRefused")
    web = next(each for each in world.status("n1")["vhosts"] if each["name"] == "web")
    assert "passwordRef: 'web.2' is no key of the Secret" == web["refused"]
    assert "MASTER" == web["state"]
    assert {"web", "other"} == pair.names()
    world.keys({"web.1": "love", "web.2": "hate"})
    pair.wait("the key is taken", sync="Applied")


def test_object_deleted(pair: Pair) -> None:
    """A deleted CarpNode takes nothing away, and the one made anew is followed."""
    world = pair.world
    uid = world.get("n1")["metadata"]["uid"]
    world.plane.admin.delete(f"{NODES}/n1")
    pair.agent.wait_text("it was deleted; going on with what was known")
    idle(1.0)
    assert holds(world.lab.node("n1"), "10.99.0.252")
    world.spec("n1", vhost(advskew=3))
    pair.wait("the new one is confirmed", confirmed=1, state="MASTER", sync="Applied")
    assert uid != world.status("n1")["observedUID"] == world.get("n1")["metadata"]["uid"]


def test_secret_deleted(pair: Pair) -> None:
    """A deleted Secret takes nothing away; what was known of it goes on, also for a new spec."""
    world = pair.world
    world.plane.admin.delete(f"{SECRETS}/carp-keys")
    pair.agent.wait_text("Secret carp-keys: it was deleted")
    generation = world.spec("n1", vhost(advskew=5))["metadata"]["generation"]
    pair.wait("the new spec is confirmed", confirmed=generation, state="MASTER", sync="Applied")


def test_no_secret_yet(pair: Pair) -> None:
    """An agent that never read the Secret tells carpd nothing, whatever the spec says."""
    world = pair.world
    pair.agent.kill()
    world.plane.admin.delete(f"{SECRETS}/carp-keys")
    before = pair.generation()
    world.spec("n1", vhost("other", vhid=43, addresses=["10.99.0.251"]))
    pair.agent = world.agent("n1").start()
    pair.wait("it says so", sync="SecretMissing")
    assert (before, {"web"}) == (pair.generation(), pair.names())
    assert "MASTER" == world.state("n1")
    world.keys({"web.1": "love"})
    pair.wait("then it is settled", sync="Applied")
    assert {"other"} <= pair.names()


def test_api_killed(pair: Pair) -> None:
    """While the API server is dead nothing changes; what comes when it is back is followed within 5 s."""
    world = pair.world
    world.plane.stop_api()
    pair.agent.wait_text("going on with what was known")
    idle(4.0)
    assert holds(world.lab.node("n1"), "10.99.0.252")
    world.plane.start_api()
    generation = world.spec("n1", vhost(advskew=9))["metadata"]["generation"]
    assert pair.wait("the new spec is confirmed", confirmed=generation) < 5


def test_api_hangs(pair: Pair) -> None:
    """An API server that stands still holds up nothing but the news, which come when it goes on."""
    world = pair.world
    world.plane.pause_api()
    try:
        call(world.lab, "n1", "demote", name="web", reason="test", amount=9)
        idle(3.0)
        assert holds(world.lab.node("n1"), "10.99.0.252")
    finally:
        world.plane.resume_api()
    wait_until(lambda: _demotions(pair), 10.0, "the news are written", pair.agent)


def test_etcd_restored(pair: Pair) -> None:
    """After etcd was restored from a snapshot the older generation is followed, and carpd takes it."""
    world = pair.world
    old = world.get("n1")["metadata"]["generation"]
    snapshot = world.plane.snapshot()
    for advskew in (11, 12, 13):
        newer = world.spec("n1", vhost(advskew=advskew))["metadata"]["generation"]
    pair.wait("the newest is confirmed", confirmed=newer)
    world.plane.restore(snapshot)
    wait_until(lambda: old == pair.generation(), 10.0, "carpd goes back", pair.agent)
    pair.wait("the restored one is confirmed", confirmed=old, state="MASTER", sync="Applied")
    assert holds(world.lab.node("n1"), "10.99.0.252")
    newest = world.spec("n1", vhost(advskew=20))["metadata"]["generation"]
    pair.wait("and then what comes after it", confirmed=newest)


def test_token_renewed(pair: Pair) -> None:
    """A refused token is replaced by the one that the kubelet has put into its place."""
    world = pair.world
    world.renew("n1", "nonsense")
    world.plane.stop_api()  # so that the watches have to be opened anew
    world.plane.start_api()
    pair.agent.wait_text("HTTP 401")
    world.renew("n1")
    generation = world.spec("n1", vhost(advskew=15))["metadata"]["generation"]
    pair.wait("the new spec is confirmed", confirmed=generation)


def test_carpd_crashes(pair: Pair) -> None:
    """A carpd that was killed and started again is told everything again; the longer absence is said."""
    pair.carpd.kill()
    pair.wait("that carpd is away is told", ready="CarpdUnreachable")
    pair.carpd.start()
    pair.wait("all is well", ready="Serving", state="MASTER", sync="Applied")


def test_carpd_loses_its_disk(pair: Pair) -> None:
    """A carpd that comes back without its stored settings gets them from the agent."""
    pair.carpd.kill()
    for path in (pair.world.lab.folder / "n1.state").rglob("*"):
        if path.is_file():
            path.unlink()
    pair.carpd.start()
    wait_until(lambda: pair.names() == {"web"}, 5.0, "it has its vhost", pair.agent, pair.carpd)
    pair.wait("all is well", ready="Serving", state="MASTER", sync="Applied")


def test_agent_killed(pair: Pair) -> None:
    """A killed agent costs nothing, and a new one writes only what has changed."""
    world = pair.world
    idle(1.5)
    pair.agent.kill()
    before = world.get("n1")["metadata"]["resourceVersion"]
    pair.agent = world.agent("n1").start()
    wait_until(lambda: _page(world, "/readyz").startswith("HTTP/1.1 200"), 10.0, "it is ready", pair.agent)
    idle(1.5)
    assert before == world.get("n1")["metadata"]["resourceVersion"]
    assert holds(world.lab.node("n1"), "10.99.0.252")


def _page(world: World, path: str) -> str:
    def ask() -> str:
        with socket.create_connection(("127.0.0.1", 9106), 2.0) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    try:
        return world.lab.node("n1").run_in(ask)
    except OSError as error:
        return str(error)


def test_pages(pair: Pair) -> None:
    """Probes and metrics answer, and readiness needs no API server."""
    world = pair.world
    wait_until(lambda: "200 OK" in _page(world, "/readyz"), 6.0, "ready after a dead time", pair.agent)
    world.plane.pause_api()
    try:
        assert "200 OK" in _page(world, "/readyz")
        assert "200 OK" in _page(world, "/healthz")
    finally:
        world.plane.resume_api()
    assert "\ncarp_agent_carpd_connected 1\n" in _page(world, "/metrics")
    pair.carpd.kill()
    wait_until(lambda: "503" in _page(world, "/readyz"), 5.0, "not ready without carpd", pair.agent)


def test_stop(pair: Pair) -> None:
    """Told to stop with carpd, the agent stays until that has gone, and the last status says so."""
    pair.carpd.kill()  # so that carpd was away once: that is not the end meant here
    wait_until(lambda: "503" in _page(pair.world, "/readyz"), 5.0, "carpd is missed", pair.agent)
    pair.carpd.start()
    wait_until(lambda: "200" in _page(pair.world, "/readyz"), 10.0, "carpd is back", pair.agent)
    pair.agent.signal(signal.SIGTERM)
    idle(1.0)
    assert pair.agent.running.poll() is None
    assert 0 == pair.carpd.term(), pair.carpd.text
    assert 0 == pair.agent.running.wait(5)
    assert ("INIT", "CarpdStopped") == (pair.world.state("n1"), pair.world.condition("n1", "Ready"))
    assert 0 == pair.world.status("n1")["masters"]


def test_stop_alone(world: World, pair: Pair) -> None:
    """Told to stop while carpd goes on, the agent leaves after its time, and takes nothing back."""
    pair.agent.kill()
    pair.agent = world.agent("n1", "--stay", "500ms").start()
    wait_until(lambda: "200 OK" in _page(world, "/healthz"), 10.0, "the agent runs", pair.agent)
    idle(0.5)
    assert 0 == pair.agent.term(timeout=4.0)
    assert ("MASTER", "Serving") == (world.state("n1"), world.condition("n1", "Ready"))
