"""Good and bad manifests with what is said about them: one table for our own reader and for the API server.

`ours` is a part of our message, `theirs` of the server's; where both say it in the same words, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

A: Spec = {"addresses": ["10.1.1.252"]}
UNICAST: Spec = {"mode": "Unicast", "extraPeers": ["10.1.1.1"]}
WEB: Spec = {"name": "web", "http": {"url": "http://127.0.0.1:8080/healthz"}}


@dataclass(frozen=True)
class Case:
    """One spec. ``ours`` empty: it is good. ``field`` is where the server sees the error."""

    spec: Any
    ours: str = ""
    field: str = ""
    theirs: str = ""

    @property
    def expected(self) -> str:
        """What the server says."""
        return self.theirs or self.ours


def check(**fields: Any) -> Spec:
    """Return a VirtualIP's spec with one health check."""
    return {**A, "healthChecks": [{"name": "web", **fields}]}


def url(text: str) -> Spec:
    """Return a VirtualIP's spec with a check of this URL."""
    return check(http={"url": text})


def timing(**fields: Any) -> Spec:
    """Return a VirtualIP's spec with explicit timing."""
    return {**A, "advertisement": fields}


NO_ADDRESS = "is not an IP address: write"
NO_UNICAST = "is a loopback, multicast, broadcast or unspecified address"
ONE_ADDRESSES = "write exactly one of addresses (a list) and addressesFrom ({pool: NAME})"
TWICE = "the same address stands twice"
NO_DURATION = "is not a duration: write 3s, 500ms or 1m30s"
ONE_INTERFACE = "write exactly one of interface:"
NO_SUBNET = "is neither auto nor a CIDR without host bits"
NO_URL = "is no URL such as http://127.0.0.1:8080/healthz"
NO_HOST = "names are not looked up, DNS may hang"
WHOLE_SECONDS = "other implementations count in whole seconds"
ONE_INTERVAL = "other implementations time out after one interval"
AFTER = "write preempt: {mode: After, after: 30s}; mode Never or Always takes no after"
VALUES = "In and NotIn need values; Exists and DoesNotExist take none"
NEVER_A_TYPE = "must be of type"

VIRTUAL_IPS: dict[str, Case] = {
    "smallest": Case(A),
    "prefixes": Case({"addresses": ["10.1.1.252/24", "2001:db8::252/64", "2001:DB8::1"]}),
    "sixteen addresses": Case({"addresses": [f"10.1.1.{i}" for i in range(1, 17)]}),
    "from pool": Case({"addressesFrom": {"pool": "lan"}}),
    "from pool, families": Case({"addressesFrom": {"pool": "lan", "families": ["IPv4", "IPv6"]}}),
    "everything": Case(
        {
            "addresses": ["10.1.1.252/24"],
            "vhid": 42,
            "interface": {"subnet": "auto"},
            "nodeSelector": {
                "matchLabels": {"role": "edge"},
                "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}],
            },
            "nodePreferences": [{"weight": 50, "matchLabels": {"zone": "a"}}],
            "maxNodes": 3,
            "failoverTime": "1m30s",
            "preempt": {"mode": "After", "after": "30s"},
            "authentication": {"secretRef": {"name": "ingress", "key": "pass"}, "mode": "Interoperable"},
            "transport": UNICAST,
            "healthChecks": [{**WEB, "period": "2s", "timeout": "2s", "rise": 1, "flap": {"count": 3}}],
            "whenAllFail": "Release",
            "announce": {"count": 3, "interval": "100ms", "refresh": "0s"},
            "fencing": "Off",
        }
    ),
    "no spec fields": Case({}, ONE_ADDRESSES, "spec.addresses"),
    "both sources": Case({**A, "addressesFrom": {"pool": "lan"}}, ONE_ADDRESSES, "spec.addresses"),
    "empty list": Case({"addresses": []}, "has 0 entries", "spec.addresses", "at least 1 items"),
    "seventeen": Case(
        {"addresses": [f"10.1.1.{i}" for i in range(1, 18)]},
        "has 17 entries",
        "spec.addresses",
        "must have at most 16",
    ),
    "one text": Case({"addresses": "10.1.1.252"}, "is not a list", "spec.addresses", NEVER_A_TYPE),
    "a name": Case({"addresses": ["vip.example"]}, NO_ADDRESS, "spec.addresses[0]"),
    "leading zero": Case({"addresses": ["10.1.1.052"]}, NO_ADDRESS, "spec.addresses[0]"),
    "zone": Case({"addresses": ["fe80::1%eth0"]}, NO_ADDRESS, "spec.addresses[0]"),
    "mapped": Case({"addresses": ["::ffff:10.1.1.1"]}, NO_ADDRESS, "spec.addresses[0]"),
    "mapped with prefix": Case({"addresses": ["::ffff:10.1.1.1/96"]}, NO_ADDRESS, "spec.addresses[0]"),
    "netmask": Case({"addresses": ["10.1.1.1/255.255.255.0"]}, NO_ADDRESS, "spec.addresses[0]"),
    "long prefix": Case({"addresses": ["10.1.1.1/33"]}, NO_ADDRESS, "spec.addresses[0]"),
    "prefix with zero": Case({"addresses": ["10.1.1.1/024"]}, NO_ADDRESS, "spec.addresses[0]"),
    "port": Case({"addresses": ["10.1.1.1:80"]}, NO_ADDRESS, "spec.addresses[0]"),
    "blank": Case({"addresses": [" 10.1.1.1"]}, NO_ADDRESS, "spec.addresses[0]"),
    "loopback": Case({"addresses": ["127.0.0.1"]}, NO_UNICAST, "spec.addresses[0]"),
    "loopback6": Case({"addresses": ["::1/128"]}, NO_UNICAST, "spec.addresses[0]"),
    "multicast": Case({"addresses": ["224.0.0.18"]}, NO_UNICAST, "spec.addresses[0]"),
    "multicast wide": Case({"addresses": ["239.1.1.1/24"]}, NO_UNICAST, "spec.addresses[0]"),
    "multicast6": Case({"addresses": ["FF05::1"]}, NO_UNICAST, "spec.addresses[0]"),
    "broadcast": Case({"addresses": ["255.255.255.255"]}, NO_UNICAST, "spec.addresses[0]"),
    "unspecified": Case({"addresses": ["0.0.0.0"]}, NO_UNICAST, "spec.addresses[0]"),
    "unspecified6": Case({"addresses": ["::/64"]}, NO_UNICAST, "spec.addresses[0]"),
    "class e": Case({"addresses": ["240.0.0.1"]}),
    "same text twice": Case(
        {"addresses": ["10.1.1.1", "10.1.1.1"]}, "stands in the list twice", "spec.addresses[1]", "Duplicate"
    ),
    "twice with prefix": Case({"addresses": ["10.1.1.1", "10.1.1.1/24"]}, TWICE, "spec.addresses"),
    "twice in spellings": Case({"addresses": ["2001:db8::1", "2001:DB8:0::1"]}, TWICE, "spec.addresses"),
    "pool name": Case(
        {"addressesFrom": {"pool": "Not A Name"}}, "is no name of an object", "spec.addressesFrom.pool"
    ),
    "pool missing": Case(
        {"addressesFrom": {"families": ["IPv4"]}}, "is required", "spec.addressesFrom.pool", "Required value"
    ),
    "family": Case(
        {"addressesFrom": {"pool": "lan", "families": ["v4"]}},
        "is not one of IPv4, IPv6",
        "spec.addressesFrom.families[0]",
        "Unsupported value",
    ),
    "vhid 0": Case({**A, "vhid": 0}, "is not between 1 and 255", "spec.vhid", "greater than or equal to 1"),
    "vhid 256": Case(
        {**A, "vhid": 256}, "is not between 1 and 255", "spec.vhid", "less than or equal to 255"
    ),
    "vhid text": Case({**A, "vhid": "42"}, "is not a whole number", "spec.vhid", NEVER_A_TYPE),
    "interface cidr": Case({**A, "interface": {"subnet": "2001:db8::/64"}}),
    "interface name": Case({**A, "interface": {"name": "bond0.100"}}),
    "interface pattern": Case({**A, "interface": {"pattern": "en*"}}),
    "interface two": Case(
        {**A, "interface": {"name": "eth0", "subnet": "auto"}}, ONE_INTERFACE, "spec.interface"
    ),
    "interface none": Case({**A, "interface": {}}, ONE_INTERFACE, "spec.interface"),
    "interface text": Case(
        {**A, "interface": "eth0"}, "is not a mapping of fields", "spec.interface", NEVER_A_TYPE
    ),
    "host bits": Case({**A, "interface": {"subnet": "10.1.1.1/24"}}, NO_SUBNET, "spec.interface.subnet"),
    "no cidr": Case({**A, "interface": {"subnet": "10.1.1.0"}}, NO_SUBNET, "spec.interface.subnet"),
    "interface slash": Case(
        {**A, "interface": {"name": "a/b"}}, "is no interface name", "spec.interface.name"
    ),
    "interface long": Case(
        {**A, "interface": {"name": "abcdefghijklmnop"}},
        "is longer than 15 characters",
        "spec.interface.name",
        "Too long",
    ),
    "selector operator": Case(
        {**A, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Equals"}]}},
        "is not one of In, NotIn",
        "spec.nodeSelector.matchExpressions[0].operator",
        "Unsupported value",
    ),
    "selector values": Case(
        {**A, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        VALUES,
        "spec.nodeSelector.matchExpressions[0].values",
    ),
    "selector exists": Case(
        {**A, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
        VALUES,
        "spec.nodeSelector.matchExpressions[0].values",
    ),
    "selector many": Case(
        {**A, "nodeSelector": {"matchLabels": {f"l{i}": "x" for i in range(17)}}},
        "has more than 16 entries",
        "spec.nodeSelector.matchLabels",
    ),
    "weight": Case(
        {**A, "nodePreferences": [{"weight": 0, "matchLabels": {}}]},
        "is not between 1 and 100",
        "spec.nodePreferences[0].weight",
        "greater than or equal to 1",
    ),
    "maxNodes": Case(
        {**A, "maxNodes": 65}, "is not between 1 and 64", "spec.maxNodes", "less than or equal to 64"
    ),
    "failover 40ms": Case({**A, "failoverTime": "40ms"}),
    "failover blank": Case({**A, "failoverTime": "3 s"}, NO_DURATION, "spec.failoverTime"),
    "failover number": Case({**A, "failoverTime": 3}, "is not a duration", "spec.failoverTime", NEVER_A_TYPE),
    "failover empty": Case({**A, "failoverTime": ""}, NO_DURATION, "spec.failoverTime"),
    "failover short": Case({**A, "failoverTime": "29ms"}, "is not between 30ms and 10m", "spec.failoverTime"),
    "failover long": Case({**A, "failoverTime": "11m"}, "is not between 30ms and 10m", "spec.failoverTime"),
    "timing": Case(timing(advbase=2, advskewStep=10, deadRatio=2)),
    "timing twice": Case(
        {**timing(advbase=1), "failoverTime": "3s"},
        "write failoverTime or advertisement, not both",
        "spec.advertisement",
    ),
    "timing base 0": Case(timing(advbase=0, advskewStep=1)),
    "timing base 0 sealed": Case({**timing(advbase=0), "authentication": {"mode": "Sealed"}}),
    "timing base 0 open": Case(
        {**timing(advbase=0), "authentication": {"mode": "Interoperable"}}, ONE_INTERVAL, "spec.advertisement"
    ),
    "timing base 0 peers": Case(
        {**timing(advbase=0), "transport": UNICAST}, ONE_INTERVAL, "spec.advertisement"
    ),
    "timing ranks": Case(
        timing(advskewStep=64), "is more than 254, the highest advskew", "spec.advertisement"
    ),
    "timing ranks of two": Case({**timing(advskewStep=254), "maxNodes": 2}),
    "advbase": Case(
        timing(advbase=256), "is not between 0 and 255", "spec.advertisement.advbase", "less than or equal"
    ),
    "fast and open": Case(
        {**A, "failoverTime": "500ms", "authentication": {"mode": "Interoperable"}},
        WHOLE_SECONDS,
        "spec.failoverTime",
    ),
    "fast and peers": Case(
        {**A, "failoverTime": "999ms", "transport": UNICAST}, WHOLE_SECONDS, "spec.failoverTime"
    ),
    "fast and sealed": Case({**A, "failoverTime": "500ms", "authentication": {"mode": "Sealed"}}),
    "after without time": Case({**A, "preempt": {"mode": "After"}}, AFTER, "spec.preempt.after"),
    "time without after": Case({**A, "preempt": {"after": "30s"}}, AFTER, "spec.preempt.after"),
    "after short": Case(
        {**A, "preempt": {"mode": "After", "after": "100ms"}},
        "is not between 1s and 24h",
        "spec.preempt.after",
    ),
    "preempt text": Case({**A, "preempt": "Never"}, "is not a mapping", "spec.preempt", NEVER_A_TYPE),
    "mode": Case(
        {**A, "authentication": {"mode": "sealed"}},
        "is not one of Interoperable, Sealed",
        "spec.authentication.mode",
        "Unsupported value",
    ),
    "secret key": Case(
        {**A, "authentication": {"secretRef": {"name": "x", "key": "a b"}}},
        "is no key of a Secret",
        "spec.authentication.secretRef.key",
    ),
    "secret by default key": Case({**A, "authentication": {"secretRef": {"name": "x"}}}),
    "group": Case({**A, "transport": {"group": "239.1.2.3", "group6": "ff05::112"}}),
    "group unicast": Case(
        {**A, "transport": {"group": "10.0.0.1"}}, "is not an IPv4 multicast address", "spec.transport.group"
    ),
    "group6 of 4": Case(
        {**A, "transport": {"group6": "224.0.0.18"}},
        "is not an IPv6 multicast address",
        "spec.transport.group6",
    ),
    "peers and multicast": Case(
        {**A, "transport": {"extraPeers": ["10.1.1.1"]}},
        "goes with mode Unicast only",
        "spec.transport.extraPeers",
    ),
    "peers sealed": Case(
        {**A, "transport": UNICAST, "authentication": {"mode": "Sealed"}},
        "cannot seal",
        "spec.authentication",
    ),
    "peers many": Case({**A, "transport": UNICAST, "maxNodes": 64}),
    "peers too many": Case(
        {**A, "transport": {**UNICAST, "extraPeers": ["10.1.1.1", "10.1.1.2"]}, "maxNodes": 64},
        "are more than 64 peers together",
        "spec.maxNodes",
    ),
    "peer prefix": Case(
        {**A, "transport": {**UNICAST, "extraPeers": ["10.1.1.1/24"]}},
        "is not an IP address such as 10.1.1.1",
        "spec.transport.extraPeers[0]",
    ),
    "peer multicast": Case(
        {**A, "transport": {**UNICAST, "extraPeers": ["224.0.0.1"]}},
        "is a loopback, multicast or unspecified address",
        "spec.transport.extraPeers[0]",
    ),
    "tcp": Case(check(tcp={"host": "localhost", "port": 443})),
    "exec": Case(check(exec={"command": ["systemctl", "is-active", "nginx"]})),
    "gateway": Case(check(gateway={"address": "2001:db8::1"})),
    "two kinds": Case(
        check(tcp={"port": 1}, gateway={"address": "10.1.1.1"}),
        "write exactly one of tcp: {port: 80}",
        "spec.healthChecks[0]",
    ),
    "no kind": Case(check(), "write exactly one of tcp: {port: 80}", "spec.healthChecks[0]"),
    "tcp name": Case(check(tcp={"host": "web", "port": 1}), NO_HOST, "spec.healthChecks[0].tcp.host"),
    "tcp port": Case(
        check(tcp={"port": 65536}),
        "is not between 1 and 65535",
        "spec.healthChecks[0].tcp.port",
        "less than or equal to 65535",
    ),
    "gateway loopback": Case(
        check(gateway={"address": "127.0.0.1"}),
        "is a loopback, multicast or unspecified address",
        "spec.healthChecks[0].gateway.address",
    ),
    "exec empty": Case(
        check(exec={"command": []}),
        "has 0 entries",
        "spec.healthChecks[0].exec.command",
        "at least 1 items",
    ),
    "exec no program": Case(
        check(exec={"command": ["", "x"]}), "the program, is empty", "spec.healthChecks[0].exec.command"
    ),
    "url query": Case(url("https://localhost?x=/[y]")),
    "url 6": Case(url("http://[::1]:8080/a%20b")),
    "url bad escape": Case(url("http://127.0.0.1/%zz")),
    "url name": Case(url("http://web.example/"), NO_HOST, "spec.healthChecks[0].http.url"),
    "url name like an address": Case(
        url("http://127.0.0.1.example/"), NO_HOST, "spec.healthChecks[0].http.url"
    ),
    "url octet": Case(url("http://127.0.0.256/"), NO_HOST, "spec.healthChecks[0].http.url"),
    "url short address": Case(url("http://127.1/"), NO_HOST, "spec.healthChecks[0].http.url"),
    "url multicast": Case(url("http://224.0.0.1/"), NO_HOST, "spec.healthChecks[0].http.url"),
    "url unspecified": Case(url("http://0.0.0.0:80/"), NO_HOST, "spec.healthChecks[0].http.url"),
    "url no 6": Case(url("http://[::1::]/"), NO_HOST, "spec.healthChecks[0].http.url"),
    "url user": Case(url("http://me@127.0.0.1/"), NO_URL, "spec.healthChecks[0].http.url"),
    "url scheme": Case(url("ftp://127.0.0.1/"), NO_URL, "spec.healthChecks[0].http.url"),
    "url port": Case(url("http://127.0.0.1:70000/"), NO_URL, "spec.healthChecks[0].http.url"),
    "url fragment": Case(url("http://127.0.0.1/#a"), NO_URL, "spec.healthChecks[0].http.url"),
    "url blank": Case(url("http://127.0.0.1/a b"), NO_URL, "spec.healthChecks[0].http.url"),
    "expect": Case(check(http={"url": "http://127.0.0.1", "expect": "204"})),
    "expect words": Case(
        check(http={"url": "http://127.0.0.1", "expect": "2xx"}),
        "is no status code or range",
        "spec.healthChecks[0].http.expect",
    ),
    "expect backwards": Case(
        check(http={"url": "http://127.0.0.1", "expect": "399-200"}),
        "is a range that ends before it begins",
        "spec.healthChecks[0].http.expect",
    ),
    "insecure": Case(check(http={"url": "https://127.0.0.1", "insecureTLS": True})),
    "insecure http": Case(
        check(http={"url": "http://127.0.0.1", "insecureTLS": True}),
        "insecureTLS goes with a URL of https only",
        "spec.healthChecks[0].http.insecureTLS",
    ),
    "host header": Case(
        check(http={"url": "http://127.0.0.1", "host": "a b"}),
        "is no host name",
        "spec.healthChecks[0].http.host",
    ),
    "timeout": Case(
        check(tcp={"port": 1}, period="1s", timeout="2s"),
        "timeout is longer than period",
        "spec.healthChecks[0].timeout",
    ),
    "timeout of the default": Case(
        check(tcp={"port": 1}, timeout="6s"), "timeout is longer than period", "spec.healthChecks[0].timeout"
    ),
    "short period": Case(check(tcp={"port": 1}, period="500ms")),
    "check name": Case(
        {**A, "healthChecks": [{"name": "a b", "tcp": {"port": 1}}]},
        "must be 1 to 63 letters",
        "spec.healthChecks[0].name",
    ),
    "check twice": Case(
        {**A, "healthChecks": [WEB, WEB]},
        "stands in the list twice",
        "spec.healthChecks[1]",
        "Duplicate value",
    ),
    "release": Case(
        {**A, "whenAllFail": "Release"}, "needs at least one entry of healthChecks", "spec.whenAllFail"
    ),
    "announce": Case(
        {**A, "announce": {"interval": "10ms"}}, "is not between 50ms and 60s", "spec.announce.interval"
    ),
    "fencing bare Off": Case({**A, "fencing": False}, "in quotes", "spec.fencing", NEVER_A_TYPE),
    "fencing Lease": Case(
        {**A, "fencing": "Lease"}, "is not one of Lifetime, Off", "spec.fencing", "Unsupported value"
    ),
}

NO_RANGE = "is neither a CIDR without host bits"

POOLS: dict[str, Case] = {
    "cidr": Case({"addresses": ["10.1.1.192/27", "2001:db8::/120"]}),
    "range": Case({"addresses": ["10.1.1.200-10.1.1.220"], "avoidBuggyIPs": True}),
    "range 6": Case({"addresses": ["2001:db8::1-2001:db8::ff"]}),
    "none": Case({}, "is required", "spec.addresses", "Required value"),
    "empty": Case({"addresses": []}, "has 0 entries", "spec.addresses", "at least 1 items"),
    "one address": Case({"addresses": ["10.1.1.1"]}, NO_RANGE, "spec.addresses[0]"),
    "host bits": Case({"addresses": ["10.1.1.193/27"]}, NO_RANGE, "spec.addresses[0]"),
    "mixed": Case({"addresses": ["10.1.1.1-2001:db8::1"]}, NO_RANGE, "spec.addresses[0]"),
    "three ends": Case({"addresses": ["10.1.1.1-10.1.1.2-10.1.1.3"]}, NO_RANGE, "spec.addresses[0]"),
    "blanks": Case({"addresses": ["10.1.1.1 - 10.1.1.2"]}, NO_RANGE, "spec.addresses[0]"),
    "short end": Case({"addresses": ["10.1.1.1-9"]}, NO_RANGE, "spec.addresses[0]"),
    "twice": Case(
        {"addresses": ["10.1.1.0/24", "10.1.1.0/24"]},
        "stands in the list twice",
        "spec.addresses[1]",
        "Duplicate",
    ),
}


def manifest(kind: str, name: str, spec: Any) -> dict[str, Any]:
    """Return an object of this group."""
    return {"apiVersion": "carp.vip/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
