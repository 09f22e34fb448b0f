from __future__ import annotations

import enum
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from carp.core import config as c
from carp.core import health, reader, schema
from carp.core.errors import ConfigErrors
from carp.core.reader import parse_duration
from carp.core.schema import parse_vhost
from carp.daemon import jsonschema
from carp.daemon.configfile import parse
from pair import DEFAULTS
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = jsonschema.schema()
TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
}


def _valid(value: Any, rule: Any) -> bool:
    """Judge a value by the keywords that the schema uses; an unknown keyword is an error here."""
    if isinstance(rule, bool):
        return rule
    return all(_keyword(value, key, rule) for key in rule if key not in {"description", "default"})


def _keyword(value: Any, key: str, rule: Any) -> bool:  # noqa: C901, PLR0911, PLR0912 (a table of keywords)
    given = rule[key]
    match key:
        case "$ref":
            return _valid(value, SCHEMA["$defs"][given.removeprefix("#/$defs/")])
        case "type":
            return TYPES[given](value)
        case "enum":
            return value in given
        case "const":
            return bool(value == given)
        case "oneOf":
            return 1 == sum(_valid(value, option) for option in given)
        case "anyOf":
            return any(_valid(value, option) for option in given)
        case "if":
            return _valid(value, rule.get("then" if _valid(value, given) else "else", True))
        case "then" | "else":
            return True
        case "minimum" | "maximum":
            number = TYPES["integer"](value)
            return not number or (value >= given if key == "minimum" else value <= given)
        case "minLength" | "maxLength" | "minItems" | "maxItems":
            sized = isinstance(value, str if key.endswith("Length") else list)
            return not sized or (len(value) >= given if key.startswith("min") else len(value) <= given)
        case "not":
            return not _valid(value, given)
        case "pattern":
            return not isinstance(value, str) or bool(re.search(given, value))
        case "items":
            return not isinstance(value, list) or all(_valid(item, given) for item in value)
        case "required":
            return not isinstance(value, dict) or set(given) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(_valid(value[k], given[k]) for k in given if k in value)
        case "additionalProperties":
            return not isinstance(value, dict) or set(value) <= set(rule["properties"])
    raise AssertionError(key)


def _parses(data: object) -> bool:
    try:
        parse_vhost(data, read_password=lambda path: b"love")
    except ConfigErrors:
        return False
    return True


TARGETS: list[dict[str, Any]] = [
    {"tcp": {"port": 80}},
    {"http": {"url": "http://127.0.0.1:8080/healthz"}},
    {"exec": {"command": ["true"]}},
    {"gateway": {"address": "10.1.1.1"}},
]
BAD_CHECKS: list[dict[str, Any]] = [
    {},
    {"tcp": {}},
    {"tcp": {"port": 0}},
    {"tcp": {"port": 80, "host": "example.test/"}, "http": {"url": "http://127.0.0.1/"}},
    {"http": {"url": "ftp://127.0.0.1/"}},
    {"http": {"url": "http://127.0.0.1/", "expect": "2xx"}},
    {"http": {}},
    {"exec": {"command": []}},
    {"exec": {"command": "true"}},
    {"gateway": {"address": "router"}},
    {"gateway": "10.1.1.1"},
    {"tcp": {"port": 80}, "rise": 0},
    {"tcp": {"port": 80}, "demotion": 255},
    {"tcp": {"port": 80}, "period": 5},
    {"tcp": {"port": 80}, "flap": {"windows": "1m"}},
    {"tcp": {"port": 80}, "name": "a/b"},
    {"tcp": {"port": 80}, "interval": "5s"},
]

FILE = {"password": None, "passwordFile": "/p"}

EXAMPLES: list[tuple[bool, dict[str, Any]]] = [
    (True, {}),
    (True, FILE),
    (False, {"passwordFile": "/p"}),
    (False, {"password": None}),
    (False, {"password": "x" * 20}),
    (False, {"password": 42}),
    (False, {"nmae": "x"}),
    *[(True, {"name": name}) for name in ("a", "A.b_c-9", "x" * 63)],
    *[(False, {"name": name}) for name in ("", "-a", "a-", "a/b", "x" * 64, 7, None)],
    *[
        (True, {"interface": i})
        for i in ("eth0", {"name": "br-lan.7"}, {"subnet": "auto"}, {"pattern": "en*"})
    ],
    *[(True, {"interface": {"subnet": "10.1.1.0/24"}})],
    *[(False, {"interface": i}) for i in ("", "a b", "x" * 16, 7, {}, {"name": "a", "subnet": "auto"}, None)],
    (False, {"interface": {"name": "eth0", "vlan": 7}}),
    *[(True, {"addresses": a}) for a in (["10.1.1.252/24"], ["2001:db8::252/64", "10.1.1.1"])],
    *[(False, {"addresses": a}) for a in ([], "10.1.1.252", ["ingress"], [7], ["fe80::1%eth0"], None)],
    (False, {"addresses": [f"10.1.1.{i}" for i in range(1, 18)]}),
    (True, {"accept": [{"addresses": ["10.1.1.1"], "password": "x"}]}),
    (True, {"accept": [{"addresses": ["10.1.1.1"], "passwordFile": "/p"}]}),
    (False, {"accept": [{"addresses": ["10.1.1.1"]}]}),
    (False, {"accept": [{"password": "x"}]}),
    (False, {"accept": [{"addresses": ["10.1.1.1"], "password": "x", "vhid": 1}]}),
    (False, {"accept": {"addresses": ["10.1.1.1"], "password": "x"}}),
    (True, {"authentication": {"mode": "Sealed"}}),
    (False, {"authentication": {"mode": "sealed"}}),
    (True, {"advbase": 0, "advskew": 1}),
    (True, {"advbase": 0, "advskew": 1, "authentication": {"mode": "Sealed"}}),
    (False, {"advbase": 0}),
    (False, {"advbase": 0, "advskew": 0}),
    (False, {"advbase": 0, "advskew": 1, "authentication": {"mode": "Interoperable"}}),
    (True, {"preempt": {"mode": "Always"}}),
    (True, {"preempt": {"mode": "After", "after": "1m30s"}}),
    (False, {"preempt": {"mode": "After"}}),
    (False, {"preempt": {"mode": "Never", "after": "30s"}}),
    (False, {"preempt": {"after": "30s"}}),
    *[
        (False, {"preempt": {"mode": "After", "after": after}})
        for after in (30, "30", "30 s", "-1s", "1.s", "")
    ],
    (False, {"preempt": "Always"}),
    (True, {"transport": {"mode": "Unicast", "peers": ["10.1.1.1", "2001:db8::1"]}}),
    (True, {"transport": {"mode": "Broadcast", "group": "224.0.0.19", "group6": "ff02::13"}}),
    (False, {"transport": {"mode": "Unicast"}}),
    (False, {"transport": {"mode": "Unicast", "peers": []}}),
    (False, {"transport": {"peers": ["10.1.1.1"]}}),
    (False, {"transport": {"mode": "Unicast", "peers": ["10.1.1.1"] * 65}}),
    (True, {"source": "10.1.1.1", "source6": "2001:db8::1"}),
    (False, {"source": "2001:db8::1"}),
    (False, {"source6": "eth0"}),
    (True, {"announce": {"count": 1, "interval": "50ms", "refresh": "0s"}}),
    (False, {"announce": {"count": 0}}),
    (False, {"announce": []}),
    *[(True, {"fencing": value}) for value in ("Lifetime", "Off")],
    *[(False, {"fencing": value}) for value in ("Lease", "off", False)],
    (True, {"scripts": {"up": "/u", "down": "", "argument": "x", "timeout": "5s", "neutral": True}}),
    (False, {"scripts": {"up": ["/u"]}}),
    (False, {"scripts": {"onExit": "yes"}}),
    *[(True, {"healthChecks": [{"name": "a", **target}]}) for target in TARGETS],
    *[(False, {"healthChecks": [{"name": "a", **check}]}) for check in BAD_CHECKS],
    (True, {"healthChecks": [{"name": str(i), **TARGETS[0]} for i in range(16)], "whenAllFail": "Release"}),
    (False, {"healthChecks": [{"name": str(i), **TARGETS[0]} for i in range(17)]}),
    (False, {"healthChecks": [TARGETS[0]]}),
    (False, {"healthChecks": TARGETS[0]}),
    (False, {"whenAllFail": "Drop"}),
    (True, {"demotions": [{"reason": "Cordoned", "amount": 100}]}),
    *[
        (False, {"demotions": [{"reason": reason, "amount": amount}]})
        for reason, amount in (("", 1), ("a b", 1), ("a", 0), ("a", 255), ("health:a", 1), ("maintenance", 1))
    ],
    *[(True, {key: True}) for key in ("manageAddresses", "firstClaimant", "ignoreLinkState")],
    *[(False, {key: 1}) for key in ("manageAddresses", "firstClaimant", "ignoreLinkState")],
]


@pytest.mark.parametrize(("sound", "changes"), EXAMPLES, ids=[json.dumps(c)[:60] for _, c in EXAMPLES])
def test_schema_and_parser_agree(sound: bool, changes: dict[str, Any]) -> None:
    """What the schema allows, the parser takes, and what it forbids, the parser refuses."""
    data = {key: value for key, value in (DEFAULTS | changes).items() if value is not None}
    assert (sound, sound) == (_parses(data), _valid(data, SCHEMA["$defs"]["vhost"]))


def test_the_file_as_a_whole() -> None:
    """The schema is that of the file: a mapping with the list `vhosts` and nothing else."""
    assert _valid({"vhosts": [DEFAULTS]}, _file_rule())
    assert 1 == len(parse({"vhosts": [DEFAULTS]})[0])
    wrongs: list[Any] = [[], {"vhosts": {}}, {"vhosts": [{}]}, {"vhosts": [DEFAULTS], "vhost": []}]
    for wrong in wrongs:
        assert not _valid(wrong, _file_rule())


def _file_rule() -> dict[str, Any]:
    return {key: rule for key, rule in SCHEMA.items() if key not in {"$schema", "$defs", "title"}}


# --- what the parser asks for ------------------------------------------------------------------------


class _Recorder(reader.Reader):
    """A reader that notes, by path, what is asked of each field: kind, default, limits."""

    found: dict[str, tuple[Any, ...]]

    def _note(self, key: str, *what: Any) -> None:
        self.found[re.sub(r"\[\d+\]", "[]", self.field(key))] = what

    def raw(self, key: str) -> Any:
        if key == "interface":
            self._note(key, "raw")
        return super().raw(key)

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        self._note(key, "integer", default, low, high)
        return super().integer(key, default, low, high)

    def text(self, key: str, default: str = "", *, secret: bool = False) -> str:
        self._note(key, "string", default)
        return super().text(key, default, secret=secret)

    def flag(self, key: str, *, default: bool) -> bool:
        self._note(key, "boolean", default)
        return super().flag(key, default=default)

    def choice(self, key: str, default: Any) -> Any:
        self._note(key, "choice", default)
        return super().choice(key, default)

    def seconds(self, key: str, default: float, low: float, high: float) -> float:
        self._note(key, "seconds", default, low, high)
        return super().seconds(key, default, low, high)

    def sequence(self, key: str) -> list[Any]:
        self._note(key, "array")
        return super().sequence(key)

    def section(self, key: str) -> reader.Reader:
        self._note(key, "object")
        return super().section(key)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Return what the parser asks of each field."""
    _Recorder.found = {}
    for module in (reader, schema, health):
        monkeypatch.setattr(module, "Reader", _Recorder)
    checks = [{"name": f"c{index}", **target} for index, target in enumerate(TARGETS)]
    accepted = [{"addresses": ["10.1.1.1"], "password": "x"}]
    demoted = [{"reason": "Cordoned", "amount": 100}]
    parse_vhost(DEFAULTS | {"accept": accepted, "healthChecks": checks, "demotions": demoted})
    return _Recorder.found


def _fields(properties: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each field of the table with its path."""
    for key, rule in properties.items():
        yield path + key, rule
        for part in [rule, *rule.get("anyOf", [])]:
            yield from _fields(part.get("properties", {}), f"{path}{key}.")
        yield from _fields(rule.get("items", {}).get("properties", {}), f"{path}{key}[].")


FIELDS = dict(_fields(jsonschema.VHOST))


def test_every_field_is_in_the_schema(asked: dict[str, tuple[Any, ...]]) -> None:
    """The parser asks for exactly the fields of the table."""
    assert set(asked) == set(FIELDS)


@pytest.mark.parametrize("path", FIELDS)
def test_type_default_and_limits_are_the_parsers(path: str, asked: dict[str, tuple[Any, ...]]) -> None:
    """Each field's type, default, limits and choices are those that the parser goes by."""
    rule = FIELDS[path]
    match asked[path]:
        case ("integer", default, low, high):
            assert ("integer", low, high) == (rule["type"], rule["minimum"], rule["maximum"])
            assert default == rule.get("default")
        case ("choice", enum.StrEnum() as default):
            assert [*type(default)] == rule["enum"]
            assert default == rule["default"]
        case ("seconds", default, low, high):
            assert "#/$defs/duration" == rule["$ref"]
            limits = [
                float(parse_duration(text) or 0) for text in re.findall(r"[\d.]+[smh]", rule["description"])
            ]
            assert [low, high] == limits
            assert default == parse_duration(rule.get("default", "0s"))
        case ("raw",):
            assert "interface" == path
        case (kind, default) if path.startswith("transport.group"):
            transport = c.Transport()
            expected = transport.group6 if path.endswith("6") else transport.group4
            assert (kind, default, str(expected)) == (rule["type"], "", rule["default"])
        case (kind, default):
            assert (kind, default) == (rule["type"], rule.get("default", ""))
        case (kind,):
            assert kind == rule["type"]


def test_patterns_are_the_parsers() -> None:
    """Names of vhosts and interfaces have the very patterns that the parser uses."""
    assert f"^{reader.NAME.pattern}$" == FIELDS["name"]["pattern"]
    assert f"^{schema._IFNAME.pattern}$" == FIELDS["interface.name"]["pattern"]


def test_every_field_is_described() -> None:
    """An editor has a sentence to show for each field."""
    assert [] == [path for path, rule in FIELDS.items() if not rule.get("description")]


def test_the_stored_schema_is_current() -> None:
    """docs/carp.schema.json is what `carp check --schema` prints."""
    stored = (ROOT / "docs" / "carp.schema.json").read_text(encoding="utf-8")
    assert jsonschema.text() == stored, "run: carp check --schema > docs/carp.schema.json"
    assert SCHEMA == json.loads(stored)
