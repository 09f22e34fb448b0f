"""Secrets: what is read, made, copied and dropped."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from carp_operator.api.objects import SecretRef, VirtualIP
from carp_operator.controller.passwords import LABELS, Passwords
from carp_operator.kube.errors import Conflict, Forbidden
from carp_operator.kube.watch import Deleted, Lost, Synced, Upsert
from carp_operator.plan.model import KeyState
from fakeapi import Asked, FakeApi, Reply
from planfix import SPEC

SECRETS = "/api/v1/namespaces/ns/secrets"


def secret(
    name: str, version: int = 1, *, ours: bool = False, counter: str = "", **values: str
) -> dict[str, Any]:
    """Return a raw Secret."""
    meta: dict[str, Any] = {"name": name, "resourceVersion": str(version), "labels": LABELS if ours else {}}
    if counter:
        meta["annotations"] = {"carp.vip/last-number": counter}
    data = {key.replace("__", "."): base64.b64encode(text.encode()).decode() for key, text in values.items()}
    return {"metadata": meta, "data": data}


def vip(name: str, named: str = "") -> VirtualIP:
    """Return a VirtualIP, with a Secret of this name or without one."""
    spec = replace(SPEC, secret=SecretRef(named, "password") if named else None)
    return VirtualIP(name, f"uid-{name}", 1, "", {}, spec, (), {})


class Server:
    """An API server with Secrets."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.status = 0

    def __call__(self, asked: Asked) -> Reply:
        name = asked.path.removeprefix(SECRETS).strip("/") or (asked.body or {}).get("metadata", {}).get(
            "name", ""
        )
        if self.status and asked.method != "GET":
            return Reply(self.status, {"message": "no"})
        if asked.method == "POST":
            self.secrets[name] = asked.body
        elif name not in self.secrets:
            return Reply(404, {"message": "not found"})
        elif asked.method == "PATCH":
            known = self.secrets[name]
            given = asked.body["metadata"].get("resourceVersion")
            if given and given != known["metadata"]["resourceVersion"]:
                return Reply(409, {"message": "changed"})
            known["data"] = {
                k: v for k, v in {**known["data"], **asked.body["data"]}.items() if v is not None
            }
            known["metadata"]["annotations"] = asked.body["metadata"]["annotations"]
        item = self.secrets[name]
        if asked.method != "GET":
            old = int(item["metadata"].get("resourceVersion", "0"))
            item["metadata"] = {**item["metadata"], "resourceVersion": str(old + 1)}
        return Reply(body=item)

    def keys(self) -> dict[str, str]:
        """Return what carp-keys holds."""
        data = self.secrets["carp-keys"]["data"]
        return {name: base64.b64decode(text).decode() for name, text in data.items()}


def test_generated_password() -> None:
    """Where no Secret is named, one of 19 printable bytes is made, stored in carp-keys first."""
    server = Server()
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        assert "not listed" in found.problem
        found.event(Synced(()))
        assert "" == found.problem
        states = found.states({"web": vip("web")}, ())
        assert {"web": KeyState("web.1")} == states
        assert found.unsaved
        assert {} == found.saved(states)
        found.save()
        assert states == found.saved(states)
        assert 19 == len(server.keys()["web.1"])
        (write,) = found.missing([vip("web")])
        assert ("create", "carp-web") == (write.verb, write.name)
        assert server.keys()["web.1"].encode() == base64.b64decode(write.body["data"]["password"])
        assert ["uid-web"] == [o["uid"] for o in write.body["metadata"]["ownerReferences"]]
        found.took(write.body | {"metadata": {**write.body["metadata"], "resourceVersion": "9"}})
        assert [] == found.missing([vip("web")])
        assert states == found.states({"web": vip("web")}, {"web.1"})
        assert not found.unsaved


def test_a_new_leader_reads_what_the_one_before_wrote() -> None:
    """Its watch may be late: else it gave a number a second time, to another password."""
    server = Server()
    server.secrets["mine"] = secret("mine", password="one")
    with FakeApi(server) as api:
        first, second = (Passwords(api.client(), "ns", lambda: None, lambda: None) for _ in range(2))
        for each in (first, second):
            each.event(Synced((secret("mine", password="one"),)))
        second.follow()
        vips = {"web": vip("web", "mine")}
        first.states(vips, ())
        first.save()
        server.secrets["mine"] = secret("mine", 2, password="two")
        assert {"web": KeyState("web.2", older=("web.1",))} == second.states(vips, {"web.1"})
        second.save()
        assert {"web.1": "one", "web.2": "two"} == server.keys()


def test_older_entries_are_named_while_carp_keys_has_them() -> None:
    """The newest first, of this VirtualIP alone: nodes of which nothing is known may run one of them."""
    server = Server()
    values = {"web.9": "one", "web.10": "two", "web.11": "three", "other.12": "four"}
    server.secrets["mine"] = secret("mine", password="two")
    server.secrets["carp-keys"] = secret("carp-keys", **{k.replace(".", "__"): v for k, v in values.items()})
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced((secret("mine", password="two"), server.secrets["carp-keys"])))
        vips = {"web": vip("web", "mine")}
        states = found.saved(found.states(vips, ()))
        assert {"web": KeyState("web.10", older=("web.11", "web.9"))} == states
        found.drop({"web.10"})
        assert found.saved(found.states(vips, ())) == states
        found.save()
        assert {"web": KeyState("web.10")} == found.saved(found.states(vips, ()))


def test_named_secret_changes() -> None:
    """Each change of a Secret that is referred to gets a new entry; the old one stays until dropped."""
    server = Server()
    server.secrets["mine"] = secret("mine", password="one")
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced((secret("mine", password="one"),)))
        vips = {"web": vip("web", "mine")}
        assert {"web": KeyState("web.1")} == found.states(vips, ())
        found.save()
        found.event(Upsert(secret("mine", 2, password="two")))
        states = found.states(vips, {"web.1"})
        assert {"web": KeyState("web.2", older=("web.1",))} == states
        assert {"web": KeyState("web.1")} == found.saved(states)
        found.save()
        assert {"web.1": "one", "web.2": "two"} == server.keys()
        found.drop({"web.2"})
        found.save()
        assert {"web.2": "two"} == server.keys()
        assert "2" == server.secrets["carp-keys"]["metadata"]["annotations"]["carp.vip/last-number"]
        found.event(Deleted(secret("mine", 3)))
        state = found.states(vips, {"web.2"})["web"]
        assert KeyState("", "NoPassword", "Secret ns/mine does not exist") == state


def test_what_was_never_saved_is_not_dropped() -> None:
    """A new password whose write has failed keeps its name and value, also when all nodes are settled."""
    server = Server()
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced(()))
        states = found.states({"web": vip("web")}, ())
        before = dict(found._entries)
        found.drop({state.current for state in found.saved(states).values()})
        assert states == found.states({"web": vip("web")}, ())
        assert before == found._entries
        found.states({}, ())
        found.drop(())
        assert {} == found._entries


def test_deleted_keys_are_written_again() -> None:
    """carp-keys deleted or changed by hand becomes what we know, under the same names."""
    server = Server()
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced(()))
        found.states({"web": vip("web")}, ())
        found.save()
        before = server.keys()
        found.event(Deleted(server.secrets.pop("carp-keys")))
        assert found.unsaved
        found.save()
        assert before == server.keys()
        server.secrets["carp-keys"] = secret("carp-keys", 50, web__1="hacked")
        found.event(Upsert(server.secrets["carp-keys"]))
        assert found.unsaved
        found.save()
        assert before == server.keys()


def test_follower_believes_the_server() -> None:
    """A standby takes what the leader has stored, and goes on from it; numbers are never reused."""
    server = Server()
    server.secrets["carp-web"] = secret("carp-web", password="one")
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced((secret("carp-keys", 1, counter="7", web__3="one"), server.secrets["carp-web"])))
        found.follow()
        found.event(Upsert(secret("carp-keys", 2, counter="8", db__8="two")))
        found.follow()
        states = found.states({"db": vip("db"), "web": vip("web")}, ())
        assert {"db": KeyState("db.8"), "web": KeyState("web.9")} == states


def test_conflict_is_settled() -> None:
    """Another writer's carp-keys is read again and written over; a second conflict is an error."""
    server = Server()
    with FakeApi(server) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced(()))
        found.states({"web": vip("web")}, ())
        found.save()
        server.secrets["carp-keys"]["metadata"]["resourceVersion"] = "70"
        found.states({"web": vip("web"), "db": vip("db")}, {"web.1"})
        found.save()
        assert {"web.1", "db.2"} == server.keys().keys()
        server.status = 409
        found.states({"x": vip("x")}, ())
        with pytest.raises(Conflict):
            found.save()
        server.status = 403
        with pytest.raises(Forbidden) as caught:
            found.save()
        assert not any(value in str(caught.value) for value in server.keys().values())


def test_secret_of_a_virtualip_made_anew_gets_its_new_owner() -> None:
    """Kubernetes would delete the Secret with the VirtualIP that it was made for."""
    with FakeApi(Server()) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: None)
        found.event(Synced((secret("carp-web", ours=True, password="one"),)))
        (write,) = found.missing([vip("web")])
        assert ("patch", "uid-web") == (write.verb, write.body["metadata"]["ownerReferences"][0]["uid"])
        found.event(Upsert(secret("carp-web", 2, password="one")))
        assert [] == found.missing([vip("web")])


def test_outage_is_told_when_it_ends() -> None:
    """After the API server was lost and is back, somebody has to list everything."""
    regained: list[bool] = []
    with FakeApi(Server()) as api:
        found = Passwords(api.client(), "ns", lambda: None, lambda: regained.append(True))
        found.event(Lost("refused"))
        assert "secrets: refused" == found.problem
        found.event(Synced(()))
        found.event(Synced(()))
        assert [True] == regained
        found.event(Lost("refused"))
        assert "" == found.problem
