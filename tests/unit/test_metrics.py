from __future__ import annotations

import re
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from carp import __version__
from carp.core import events as ev
from carp.core.errors import DropReason
from carp.core.schema import parse_vhost
from carp.core.transitions import Cause, State
from carp.core.vhost import Vhost
from carp.core.wire import Advert
from carp.daemon.metrics import LATENESS, STALLS, TABLE, Metrics, NodeView, VipView
from carp.daemon.registry import Kind

SAMPLE = re.compile(r'(?P<name>\w+?)(?:\{(?P<labels>(?:\w+="(?:[^"\\\n]|\\.)*",?)*)\})? (?P<value>\S+)')
DEAD_TIME = 3.2
ADVERT = Advert(1, 1, 0, 0, 0, b"")
REIGNING: Any = SimpleNamespace(leaving=None)
LEAVING: Any = SimpleNamespace(leaving="somebody answers")


class Log:
    """A watcher that keeps what it is told of what metrics hand on."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def saw(self, *what: Any) -> None:
        self.calls.append(("saw", *what))

    def send_failed(self, *what: Any) -> None:
        self.calls.append(("send_failed", *what))

    def dropped(self, *what: Any) -> None:
        self.calls.append(("dropped", *what))


def _vhost(name: str = "a", vhid: int = 1) -> Vhost:
    settings = {
        "name": name,
        "vhid": vhid,
        "interface": "eth0",
        "addresses": [f"10.0.{vhid}.1"],
        "password": "example",
    }
    config = parse_vhost(settings, path="", read_password=lambda _: b"")
    return Vhost(config, chance=lambda: 0.0)


def _view(*vhosts: Vhost, **more: Any) -> NodeView:
    drops = more.pop("drops", {})
    checks = more.pop("checks", {})
    return NodeView([VipView(vhost.snapshot(), "eth0", checks) for vhost in vhosts], drops, **more)


def _samples(metrics: Metrics, view: NodeView) -> dict[str, str]:
    """Return each sample line's value by what stands before it."""
    lines = "".join(metrics.render(view)).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def _change(cause: Cause) -> ev.Changed:
    return ev.Changed(State.BACKUP, State.MASTER, cause)


def test_every_name_follows_the_convention() -> None:
    """One prefix; counters and only they end in _total; a time is in seconds; names are unique."""
    names = [family.name for family in TABLE]
    assert len(names) == len(set(names))
    for family in TABLE:
        assert re.fullmatch(r"carp_[a-z_]+", family.name)
        assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
        assert (family.kind is Kind.HISTOGRAM) == bool(family.buckets)
        assert family.kind is not Kind.HISTOGRAM or family.name.endswith("_seconds")
        assert list(family.buckets) == sorted(set(family.buckets))
        assert family.help.endswith(".")


def test_every_sample_bears_the_labels_of_the_table() -> None:
    """What is exported is what the table says: each family once, in order, with exactly its labels."""
    vhost = _vhost()
    vhost.demotions['he"al\\th\n'] = 5
    vhost.drops[DropReason.HMAC] = 2
    metrics = Metrics(Log())
    metrics.saw(vhost, _change(Cause.DEAD_TIME))
    view = _view(vhost, drops={"eth0": {DropReason.VRRP: 4}}, checks={"web": True})
    texts = list(metrics.render(view))
    assert len(TABLE) == len(texts)
    for family, text in zip(TABLE, texts, strict=True):
        head, kind, *samples = text.splitlines()
        assert (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}") == (head, kind)
        assert samples
        for line in samples:
            match = SAMPLE.fullmatch(line)
            assert match, line
            if family.kind is not Kind.HISTOGRAM:
                labels = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', match["labels"] or "")
                assert (family.name, list(family.labels)) == (match["name"], labels)


def test_state_demotion_drops_and_checks_are_read_from_the_view() -> None:
    """What the engine keeps is shown as it is at the time of the scrape."""
    vhost = _vhost("a", 7)
    metrics = Metrics(Log())
    vhost.handle(ev.LinkUp(()), 0.0)
    vhost.handle(ev.Demote("health:web", 100), 0.0)
    vhost.drops[DropReason.REPLAY] = 3
    view = _view(
        vhost,
        drops={"eth1": {DropReason.TTL: 2}},
        checks={"web": False, "db": True},
        config_stale=True,
        state_persisted=False,
    )
    expected = {
        'carp_vip_state{vip="a",vhid="7",interface="eth0"}': "1",
        'carp_demotion{vip="a",reason="health:web"}': "100",
        'carp_vip_drops_total{vip="a",reason="replay"}': "3",
        'carp_drops_total{interface="eth1",reason="ttl"}': "2",
        'carp_drops_total{interface="eth1",reason="checksum"}': "0",
        'carp_health_up{vip="a",check="web"}': "0",
        'carp_health_up{vip="a",check="db"}': "1",
        "carp_config_stale": "1",
        "carp_state_persisted": "0",
        f'carp_build_info{{version="{__version__}"}}': "1",
    }
    assert expected.items() <= _samples(metrics, view).items()


def test_every_count_starts_at_zero() -> None:
    """A vhost for which nothing was counted has its counters all the same, so that a rate sees the first."""
    samples = _samples(Metrics(Log()), _view(_vhost()))
    counters = [f for f in TABLE if f.kind is Kind.COUNTER and f.labels == ("vip",)]
    assert ["0"] * len(counters) == [samples[f'{family.name}{{vip="a"}}'] for family in counters]


def test_hooks_count_for_their_vhost() -> None:
    """Each hook adds to its own counter, of its own vhost."""
    a, b, metrics = _vhost("a"), _vhost("b"), Metrics(Log())
    metrics.sent(a, 2, None)
    metrics.sent(a, 1, None)
    metrics.heard(a, None, ADVERT, 1.0)
    metrics.renewed(a)
    metrics.announced(a)
    metrics.send_failed(a, "no route")
    metrics.saw(a, _change(Cause.BOW_OUT))
    metrics.saw(b, _change(Cause.BOW_OUT))
    metrics.saw(b, ev.Stopped())
    samples = _samples(metrics, _view(a, b))
    expected = {
        "carp_adverts_sent_total": "3",
        "carp_adverts_received_total": "1",
        "carp_address_renewals_total": "1",
        "carp_announcements_total": "1",
        "carp_send_errors_total": "1",
    }
    assert expected == {name: samples[f'{name}{{vip="a"}}'] for name in expected}
    assert dict.fromkeys(expected, "0") == {name: samples[f'{name}{{vip="b"}}'] for name in expected}
    assert "1" == samples['carp_vip_transitions_total{vip="b",cause="bow-out"}']


def test_what_is_counted_is_handed_on() -> None:
    """The watcher behind hears everything that every watcher is told."""
    log, vhost = Log(), _vhost()
    metrics = Metrics(log)
    packet: Any = object()
    metrics.saw(vhost, ev.Stopped())
    metrics.send_failed(vhost, "no route")
    metrics.dropped("eth0", 3, packet, DropReason.VHID)
    assert [
        ("saw", vhost, ev.Stopped()),
        ("send_failed", vhost, "no route"),
        ("dropped", "eth0", 3, packet, DropReason.VHID),
    ] == log.calls


def test_lateness_and_stalls_are_histograms() -> None:
    """Each advert with a due time is observed, never as negative; each stall too."""
    metrics, vhost = Metrics(Log()), _vhost()
    metrics.sent(vhost, 1, -0.001)
    metrics.sent(vhost, 1, 0.004)
    metrics.sent(vhost, 1, None)
    metrics.stalled(1.5)
    samples = _samples(metrics, _view(vhost))
    assert "1" == samples[f'carp_advert_lateness_seconds_bucket{{le="{LATENESS[0]}"}}']
    assert ("2", "0.004") == tuple(samples[f"carp_advert_lateness_seconds_{end}"] for end in ("count", "sum"))
    assert ("1", "1.5") == tuple(samples[f"carp_loop_stall_seconds_{end}"] for end in ("count", "sum"))
    assert all(f'carp_loop_stall_seconds_bucket{{le="{bound:g}"}}' in samples for bound in STALLS)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([], 0.0),
        ([10.0], 0.0),
        ([10.0, 11.0, 12.5], 2.5),
        ([10.0, 10.0 + DEAD_TIME - 0.01], DEAD_TIME - 0.01),
        ([10.0, 10.0 + DEAD_TIME + 0.01], 0.0),
        ([10.0, 11.0, 100.0, 100.5], 1.5),
    ],
)
def test_dual_master_seconds_are_the_time_between_a_rivals_adverts(
    times: list[float], seconds: float
) -> None:
    """From one advert of another master to the next, unless a dead time lies between them."""
    metrics, vhost = Metrics(Log()), _vhost()
    assert DEAD_TIME == pytest.approx(vhost.dead_time())
    for now in times:
        metrics.heard(vhost, REIGNING, ADVERT, now)
    samples = _samples(metrics, _view(vhost))
    assert seconds == pytest.approx(float(samples['carp_dual_master_seconds_total{vip="a"}']))


def test_ordinary_life_is_no_dual_master() -> None:
    """A backup hears a master, a master a bow-out, and who bows out hears a successor: none of it counts."""
    metrics, vhost = Metrics(Log()), _vhost()
    bow_out = replace(ADVERT, advbase=255, advskew=255)
    for now in (10.0, 11.0, 12.0):
        metrics.heard(vhost, None, ADVERT, now)
        metrics.heard(vhost, REIGNING, bow_out, now)
        metrics.heard(vhost, LEAVING, ADVERT, now)
    samples = _samples(metrics, _view(vhost))
    assert "0" == samples['carp_dual_master_seconds_total{vip="a"}']
    assert "9" == samples['carp_adverts_received_total{vip="a"}']


def test_removed_vhost_disappears() -> None:
    """A vhost that is no more has no series, and one of its name later begins at zero."""
    metrics, vhost = Metrics(Log()), _vhost()
    metrics.heard(vhost, None, ADVERT, 1.0)
    assert not any('vip="a"' in key for key in _samples(metrics, _view()))
    metrics.forget("a")
    metrics.forget("never there")
    assert "0" == _samples(metrics, _view(vhost))['carp_adverts_received_total{vip="a"}']


def test_scrape_of_200_vhosts_costs_less_than_10_ms() -> None:
    """10 ms of CPU time with the snapshots, no slice of more than 5; the best of 20 runs counts."""
    vhosts = [_vhost(f"vip-{n}", n + 1) for n in range(200)]
    metrics = Metrics(Log())
    for vhost in vhosts:
        vhost.demotions["health:web"] = 100
        vhost.drops[DropReason.HMAC] = 1
        for cause in (Cause.LINK_UP, Cause.DEAD_TIME, Cause.BETTER_MASTER):
            metrics.saw(vhost, _change(cause))
    runs = []
    for _ in range(20):
        slices = []
        began = time.thread_time()
        for text in metrics.render(_view(*vhosts, checks={"web": True})):
            text.encode()
            now = time.thread_time()
            slices.append(now - began)
            began = now
        runs.append((sum(slices), max(slices)))
    assert min(total for total, _ in runs) < 0.010
    assert min(longest for _, longest in runs) < 0.005
