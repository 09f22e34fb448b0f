"""CarpNode.status from what carpd says, and when it is worth a write."""

from __future__ import annotations

from typing import Any

import pytest

from carp import __version__
from carp_operator.agent.report import REASONS, Verdict, differs, status, urgent
from carp_operator.agent.view import STOPPED, View
from carp_operator.api.carpnode import STATUS
from fakecarpd import answer, backup, seen, vhost

NODE: dict[str, Any] = {"metadata": {"uid": "u", "generation": 7}, "spec": {"vhosts": [{"name": "web"}]}}
DONE = Verdict("u", 7, "Applied", REASONS["Applied"])
NOW = "2026-01-02T04:00:00Z"
LINK = {
    "name": "eth0",
    "mac": "02:00:00:00:00:01",
    "mtu": 1500,
    "carrier": True,
    "addresses": ["10.1.1.1/24"],
}


def ours(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return a vhost that carpd was told over the socket."""
    return vhost(name, source="socket", **changes)


def known(*vhosts: dict[str, Any], **fields: Any) -> View:
    """Return a view with these vhosts."""
    view = View()
    view.take({"event": "snapshot", **answer(*vhosts), "links": [LINK], **fields}, 0.0)
    return view


def told(view: View, verdict: Verdict = DONE, previous: Any = None, node: Any = None) -> dict[str, Any]:
    """Return the status."""
    return status(NODE if node is None else node, previous or {}, view, verdict, NOW)


def reasons(found: dict[str, Any]) -> dict[str, str]:
    """Return the reasons of the conditions."""
    return {each["type"]: each["reason"] for each in found["conditions"]}


def test_all() -> None:
    """Everything that is known stands in its field, and what is empty is left out."""
    speaker = {
        "protocol": "vrrp",
        "id": 5,
        "source": "10.1.1.9",
        "mac": None,
        "lastHeard": 1.0,
        "reason": "vrrp",
    }
    found = told(known(ours(drops={"ttl": 2}), interfaces=[{"interface": "eth0", "foreign": [speaker]}]))
    conditions = found.pop("conditions")
    assert {
        "observedUID": "u",
        "observedGeneration": 7,
        "agentVersion": __version__,
        "carpdVersion": "0.1.0",
        "lastWrite": NOW,
        "masters": 1,
        "interfaces": [LINK],
        "vhosts": [
            {
                "name": "web",
                "state": "MASTER",
                "since": "2026-01-02T03:04:05Z",
                "transitions": 2,
                "interface": "eth0",
                "vhid": 42,
                "advbase": 1,
                "advskew": 0,
                "drops": {"ttl": 2},
                "reason": "dead-time",
            }
        ],
        "foreign": [{"interface": "eth0", "protocol": "vrrp", "id": 5, "source": "10.1.1.9"}],
    } == found
    assert [("InSync", "True", 7), ("Ready", "True", 7)] == [
        (each["type"], each["status"], each["observedGeneration"]) for each in conditions
    ]


def test_fields_exist() -> None:
    """Every field that is written stands in the schema, which would prune it otherwise."""
    trouble = ours(
        "b",
        state="BACKUP",
        master=seen(),
        demotions=[{"reason": "x", "amount": 3}],
        conflict={"address": "10.1.1.252", "mac": "02:00:00:00:00:09"},
        error="address in use",
    )
    speaker = {"protocol": "carp", "id": 5, "source": "10.1.1.9", "mac": "02:00:00:00:00:08"}
    view = known(ours(), trouble, interfaces=[{"interface": "eth0", "foreign": [speaker]}])
    found = told(view, Verdict("u", 7, refused={"b": "no"}))
    assert "02:00:00:00:00:09" == found["vhosts"][0]["conflict"]
    _declared(found, STATUS.schema())


def _declared(value: Any, schema: dict[str, Any]) -> None:
    if isinstance(value, dict) and "properties" in schema:
        assert value.keys() <= schema["properties"].keys()
        for key, each in value.items():
            _declared(each, schema["properties"][key])
    if isinstance(value, list):
        for each in value:
            _declared(each, schema["items"])


def test_backup() -> None:
    """A backup tells which master it hears; a master tells of none."""
    (web,) = told(known(backup(source="socket", master=seen(advskew=4))))["vhosts"]
    assert {"source": "10.1.1.2", "advskew": 4} == web["masterSeen"]
    (web,) = told(known(ours(master=seen())))["vhosts"]
    assert "masterSeen" not in web


def test_which_vhosts() -> None:
    """Vhosts of the file are not told; ordered ones that do not run are, with the reason."""
    node = {**NODE, "spec": {"vhosts": [{"name": "web"}, {"name": "new"}]}}
    view = known(ours(), vhost("static"), vhost("leaving", source=""))
    found = told(view, Verdict("u", 7, "VhostsRefused", "", {"new": "no", "web": "x" * 2000}), node=node)
    assert ["leaving", "new", "web"] == [each["name"] for each in found["vhosts"]]
    new = found["vhosts"][1]
    assert ("INIT", "no") == (new["state"], new["refused"])
    assert 1000 == len(found["vhosts"][2]["refused"])


def test_confirmed() -> None:
    """Before carpd has confirmed anything to us, what was confirmed before stands."""
    previous = {"observedUID": "old", "observedGeneration": 3}
    found = told(known(ours(), daemon={"generation": 9}), Verdict(), previous)
    assert ("old", 3) == (found["observedUID"], found["observedGeneration"])
    assert "observedUID" not in told(known(), Verdict())


def test_away() -> None:
    """Without carpd the last states stand, each with the problem; also those of the agent before."""
    view = known(ours())
    previous = told(view)
    view.lose("closed", 1.0)
    found = told(view, DONE, previous)
    assert {"InSync": "CarpdUnreachable", "Ready": "CarpdUnreachable"} == reasons(found)
    assert ("MASTER", "closed") == (found["vhosts"][0]["state"], found["vhosts"][0]["problem"])
    again = told(View(), Verdict(), previous)
    assert [v | {"problem": "carpd was not reached yet"} for v in previous["vhosts"]] == again["vhosts"]
    same = ("interfaces", "foreign", "carpdVersion", "observedGeneration", "masters")
    assert {key: previous[key] for key in same} == {key: again[key] for key in same}


def test_stopped() -> None:
    """A carpd that said goodbye is master of nothing."""
    view = known(ours())
    view.lose(STOPPED, 1.0)
    found = told(view)
    assert ("INIT", "carpd has stopped") == (found["vhosts"][0]["state"], found["vhosts"][0]["problem"])
    assert (0, "CarpdStopped") == (found["masters"], reasons(found)["Ready"])


def test_not_stored() -> None:
    """Settings that are not on disk are no confirmation and no readiness."""
    view = known(ours())
    view.daemon |= {"persisted": False, "problems": ["state: disk full"]}
    found = told(view)
    assert ("Ready", "False", "state: disk full") == tuple(
        found["conditions"][1][key] for key in ("type", "status", "message")
    )


@pytest.mark.parametrize("reason", ["Pending", "Refused", "VhostsRefused", "SecretMissing", "NoSettings"])
def test_not_in_sync(reason: str) -> None:
    """Whatever keeps carpd from the spec is a reason from the list."""
    found = told(known(), Verdict(reason=reason, message="why"))
    assert ("False", reason, "why") == tuple(
        found["conditions"][0][key] for key in ("status", "reason", "message")
    )
    assert reason in REASONS


def test_transition_times() -> None:
    """A condition keeps its time while its status stays, whatever the reason."""
    view = known(ours())
    first = told(view)
    later = status(NODE, first, view, Verdict("u", 7, "VhostsRefused", ""), "2026-01-02T05:00:00Z")
    assert ["2026-01-02T05:00:00Z", NOW] == [each["lastTransitionTime"] for each in later["conditions"]]


def test_nothing_new() -> None:
    """The same view again, its moments reckoned a little differently, is not worth a write."""
    before = told(known(ours(drops={"ttl": 5})))
    after = told(
        known(ours(since="2026-01-02T03:04:06Z", drops={"ttl": 49}, lease=0.3, seconds=9.0)), DONE, before
    )
    assert "2026-01-02T03:04:05Z" == after["vhosts"][0]["since"]
    assert not differs({**after, "lastWrite": "later"}, before)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "BACKUP"},
        {"since": "2026-01-02T03:05:00Z"},
        {"since": "nonsense"},
        {"transitions": 3},
        {"demotions": [{"reason": "x", "amount": 1}]},
        {"advskew": 9},
        {"error": "no link"},
        {"drops": {"ttl": 50}},
        {"drops": {"ttl": 5, "hmac": 1}},
    ],
)
def test_something_new(changes: dict[str, Any]) -> None:
    """Each of these is worth a write; counters when they are new or grew tenfold."""
    before = told(known(ours(drops={"ttl": 5})))
    assert differs(told(known(ours(**{"drops": {"ttl": 5}, **changes})), DONE, before), before)


def test_first() -> None:
    """A status where there was none is worth a write; counters that began anew are not."""
    assert differs(told(known(ours())), {})
    before = told(known(ours(drops={"ttl": 500})))
    assert not differs(told(known(ours(drops={"ttl": 1})), DONE, before), before)


def test_urgent() -> None:
    """News of foreign speakers are worth a write, but not at once; anything beside them is."""
    speaker = {"protocol": "carp", "id": 5, "source": "10.1.1.9", "mac": None}
    before = told(known(ours()))
    after = told(known(ours(), interfaces=[{"interface": "eth0", "foreign": [speaker]}]), DONE, before)
    assert differs(after, before)
    assert not urgent(after, before)
    assert urgent({**after, "masters": 0}, before)
