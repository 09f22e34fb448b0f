"""What the store believes: newest wins, lists are the truth, and what vanished is doubted first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carp_operator.controller.store import KINDS, NEVER, Store
from carp_operator.kube.resources import CARP_NODES, NODES, POOLS, VIRTUAL_IPS

if TYPE_CHECKING:
    from carp_operator.kube.resources import Resource


class Count:
    def __init__(self) -> None:
        self.calls = 0
        self.soon = False

    def __call__(self, soon: bool) -> None:
        self.calls += 1
        self.soon = soon


def vip(name: str, version: int, address: str = "10.1.1.1", uid: str = "") -> dict[str, Any]:
    """Return a raw VirtualIP."""
    meta = {"name": name, "resourceVersion": str(version), "uid": uid or f"uid-{name}", "generation": 1}
    return {"metadata": meta, "spec": {"addresses": [address]}}


def node(name: str, version: int, uid: str = "u", **labels: str) -> dict[str, Any]:
    """Return a raw Node."""
    return {"metadata": {"name": name, "resourceVersion": str(version), "uid": uid, "labels": labels}}


def filled(*vips: dict[str, Any]) -> tuple[Store, Count]:
    """Return a store in which every kind was listed."""
    count = Count()
    store = Store(count)
    for kind in KINDS:
        store.replace(kind, vips if kind is VIRTUAL_IPS else (), store.begin())
    count.calls = 0
    return store, count


def labels(store: Store, name: str = "n1") -> dict[str, str]:
    """Return the labels of a Node."""
    return dict(store.objects(NODES)[name].labels)


def test_nothing_is_known_before_the_first_lists() -> None:
    """Each kind is unknown until it was listed once, and again when a list fails."""
    store = Store(lambda _: None)
    assert {f"{kind.plural}: {NEVER}" for kind in KINDS} == set(store.problems())
    store.replace(NODES, (), store.begin())
    assert not any(problem.startswith("nodes") for problem in store.problems())
    store.unknown(NODES, "HTTP 500")
    assert "nodes: HTTP 500" in store.problems()


def test_newest_version_wins() -> None:
    """An older event does not undo a newer one; versions compare as numbers."""
    store, _ = filled()
    store.put(NODES, node("n1", 100, color="blue"))
    store.put(NODES, node("n1", 99, color="red"))
    assert {"color": "blue"} == labels(store)
    store.put(NODES, node("n1", 1000, color="red"))
    assert {"color": "red"} == labels(store)
    assert 1000 == store.version(NODES, "n1")
    assert 0 == store.version(NODES, "n2")


def test_same_content_is_no_news() -> None:
    """A new version of the same content keeps the object and causes no plan."""
    store, count = filled()
    store.put(NODES, node("n1", 1))
    before, calls = store.objects(NODES), count.calls
    store.put(NODES, node("n1", 2))
    assert store.objects(NODES) is before
    assert (calls, 2) == (count.calls, store.version(NODES, "n1"))


def test_deletion_of_an_older_object_is_none() -> None:
    """An object made anew under the same name outlives the late news of the deletion of the first."""
    store, _ = filled()
    store.put(NODES, node("n1", 5, uid="new"))
    store.delete(NODES, node("n1", 4, uid="old"))
    assert {"n1"} == store.objects(NODES).keys()
    store.delete(NODES, node("n1", 6, uid="new"))
    assert {} == store.objects(NODES)


def test_list_replaces_what_was_known_before_it() -> None:
    """A list is the truth, also where it shows older versions: a restored etcd runs backwards."""
    store, _ = filled()
    store.put(NODES, node("n1", 50, color="blue"))
    store.put(NODES, node("n2", 51))
    store.replace(NODES, [node("n1", 10, color="red")], store.begin())
    assert {"n1"} == store.objects(NODES).keys()
    assert {"color": "red"} == labels(store)


def test_what_comes_during_a_list_counts_by_version() -> None:
    """An event between a list's question and its answer is newer than the answer."""
    store, _ = filled()
    store.put(NODES, node("n1", 1))
    store.put(NODES, node("gone", 2))
    began = store.begin()
    store.put(NODES, node("n1", 9, color="blue"))
    store.put(NODES, node("n2", 8))
    store.delete(NODES, node("gone", 7))
    store.replace(NODES, [node("n1", 5, color="red"), node("gone", 2)], began)
    assert {"n1", "n2"} == store.objects(NODES).keys()
    assert {"color": "blue"} == labels(store)


def test_vanished_virtualip_is_kept_until_judged() -> None:
    """A VirtualIP that was deleted or is no longer listed stays until somebody believes it."""
    store, _ = filled(vip("a", 1), vip("b", 2), vip("c", 3))
    store.delete(VIRTUAL_IPS, vip("a", 4))
    store.replace(VIRTUAL_IPS, [vip("c", 3)], store.begin())
    assert {"a", "b"} == set(store.unjudged()) == store.absent()
    assert {"a", "b", "c"} == store.objects(VIRTUAL_IPS).keys()
    store.believe(["a"])
    assert {"b", "c"} == store.objects(VIRTUAL_IPS).keys()
    assert ("b",) == store.unjudged()


def test_vanished_virtualip_that_comes_back_counts() -> None:
    """One that is applied again is present again, by an event as by a list."""
    store, count = filled(vip("a", 1), vip("b", 2))
    store.delete(VIRTUAL_IPS, vip("a", 3))
    store.delete(VIRTUAL_IPS, vip("b", 4))
    calls = count.calls
    store.put(VIRTUAL_IPS, vip("a", 5, uid="new"))
    store.replace(VIRTUAL_IPS, [vip("a", 5, uid="new"), vip("b", 6, uid="new")], store.begin())
    assert frozenset() == store.absent()
    assert {"new"} == {each.uid for each in store.objects(VIRTUAL_IPS).values()}
    assert count.calls > calls


def test_late_answer_brings_nothing_back() -> None:
    """The answer to a write of ours that comes after the object's deletion is no news, lists or not."""
    store, count = filled(vip("a", 6))
    store.delete(VIRTUAL_IPS, vip("a", 8))
    calls = count.calls
    assert "a" == store.put(VIRTUAL_IPS, vip("a", 7)).name
    assert (("a",), calls) == (store.unjudged(), count.calls)
    store.believe(["a"])
    assert "a" == store.put(VIRTUAL_IPS, vip("a", 7)).name
    store.replace(VIRTUAL_IPS, (), store.begin())
    store.put(VIRTUAL_IPS, vip("a", 7))
    assert {} == store.objects(VIRTUAL_IPS)


def test_deletion_says_nothing_of_another_object_of_that_name() -> None:
    """Nor of the same one, where a list shows it: a restored etcd runs backwards."""
    store, _ = filled(vip("a", 6), vip("b", 6))
    for name in ("a", "b"):
        store.delete(VIRTUAL_IPS, vip(name, 800))
        store.believe([name])
    store.put(VIRTUAL_IPS, vip("a", 9, uid="new"))
    assert {"a"} == store.objects(VIRTUAL_IPS).keys()
    store.replace(VIRTUAL_IPS, [vip("a", 9, uid="new"), vip("b", 6)], store.begin())
    store.put(VIRTUAL_IPS, vip("b", 10, address="10.1.1.9"))
    assert {"a": 9, "b": 10} == {
        name: store.version(VIRTUAL_IPS, name) for name in store.objects(VIRTUAL_IPS)
    }


def test_deletions_are_forgotten_by_the_list_after_the_next() -> None:
    """Nothing grows with the number of objects that there ever were."""
    store, _ = filled(vip("a", 6))
    store.delete(VIRTUAL_IPS, vip("a", 8))
    table = store._tables[VIRTUAL_IPS]
    for left in (1, 0):
        store.replace(VIRTUAL_IPS, (), store.begin())
        assert left == len(table.gone)


def test_kept_virtualips_expire() -> None:
    """Those that vanished with their definition are kept for a time, and then forgotten."""
    store, _ = filled(vip("a", 1), vip("b", 2))
    store.replace(VIRTUAL_IPS, (), store.begin())
    store.keep(["a", "b", "never there"], 600.0)
    assert () == store.unjudged()
    store.replace(VIRTUAL_IPS, (), store.begin())
    assert () == store.unjudged()
    assert 600.0 == store.expire(599.0)
    assert {"a", "b"} == store.objects(VIRTUAL_IPS).keys()
    assert store.expire(600.0) is None
    assert {} == store.objects(VIRTUAL_IPS)


def test_other_kinds_vanish_at_once() -> None:
    """Pools and CarpNodes that are deleted are gone: the planner makes CarpNodes anew."""
    store, _ = filled()
    kinds: tuple[Resource, ...] = (POOLS, CARP_NODES)
    for kind in kinds:
        store.put(kind, node("x", 1))
        store.delete(kind, node("x", 2))
        assert {} == store.objects(kind)


def test_own_writes_are_told_apart() -> None:
    """A change of a status by us is no hurry; of a spec by a user, or of a status by an agent, it is."""
    store, count = filled(vip("a", 1))
    store.put(VIRTUAL_IPS, {**vip("a", 2), "status": {"vhid": 7}})
    assert (1, False) == (count.calls, count.soon)
    store.put(VIRTUAL_IPS, {**vip("a", 3, address="10.1.1.2"), "status": {"vhid": 7}})
    assert (2, True) == (count.calls, count.soon)
    told = {"metadata": {"name": "n1", "uid": "u", "resourceVersion": "4", "generation": 1}, "spec": {}}
    store.put(CARP_NODES, told)
    assert count.soon
    told = {
        **told,
        "spec": {"vhosts": []},
        "metadata": {**told["metadata"], "resourceVersion": "5", "generation": 2},
    }
    store.put(CARP_NODES, told)
    assert not count.soon
    told = {
        **told,
        "status": {"observedGeneration": 2},
        "metadata": {**told["metadata"], "resourceVersion": "6"},
    }
    store.put(CARP_NODES, told)
    assert count.soon
