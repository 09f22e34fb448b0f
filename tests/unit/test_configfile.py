"""The configuration file of carp daemon (design.md section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp.core.config import Interface
from carp.core.errors import ConfigErrors
from carp.daemon.configfile import load, parse
from pair import DEFAULTS, config

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = """\
vhosts:
  - name: ingress
    vhid: 42
    interface: {name: eth0}
    addresses: [10.1.1.252, "2001:db8::252/64"]
    passwordFile: %s
    preempt: {mode: Never}
    transport: {mode: Multicast}
    announce: {count: 5, interval: 1s, refresh: 60s}
    fencing: Lifetime
    healthChecks: []
    scripts: {up: "", down: ""}
  - name: other
    vhid: 43
    interface: eth0
    addresses: [10.1.1.253]
    password: love
"""


def _vhost(**fields: object) -> dict[str, object]:
    return DEFAULTS | fields


def _write(folder: Path, text: str, name: str = "carp.yaml") -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def _errors(path: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    return [str(error) for error in caught.value.errors]


def test_the_documented_example(tmp_path: Path) -> None:
    """Every vhost in order, its password from a file or in place, nothing to warn about."""
    secret = tmp_path / "pass"
    secret.write_bytes(b"hate\n")
    secret.chmod(0o600)
    configs, notes = load(_write(tmp_path, EXAMPLE % secret))
    assert (["ingress", "other"], []) == ([c.name for c in configs], notes)
    assert [b"hate", b"love"] == [c.sign.password for c in configs]
    assert {Interface(name="eth0")} == {c.interface for c in configs}


def test_a_password_file_that_others_can_read_is_a_note(tmp_path: Path) -> None:
    """It works, and is told."""
    secret = tmp_path / "pass"
    secret.write_bytes(b"hate\n")
    secret.chmod(0o644)
    _, notes = load(_write(tmp_path, EXAMPLE % secret))
    assert [f"{secret} can be read by others (mode 0644): chmod 600 {secret}"] == notes


def test_the_files_of_a_folder_are_merged(tmp_path: Path) -> None:
    """conf.d beside the file, in the order of names; hidden and other files are left out."""
    main = _write(tmp_path, EXAMPLE.partition("  - name: other")[0] % _write(tmp_path, "hate", "pass"))
    for name, vhid in (("20.yaml", 2), ("10.yml", 1), (".hidden.yaml", 3), ("x.txt", 4)):
        text = f"vhosts: [{{name: v{vhid}, vhid: {vhid}, interface: e0, addresses: [10.1.1.{vhid}], password: p}}]"
        _write(tmp_path / "conf.d", text, name)
    configs, _ = load(main)
    assert ["ingress", "v1", "v2"] == [c.name for c in configs]


def test_every_mistake_with_its_line(tmp_path: Path) -> None:
    """All at once, each with path, line and value."""
    text = (EXAMPLE % "nosuch").replace("vhid: 43", "vhid: 300").replace("fencing:", "fencin:")
    errors = _errors(_write(tmp_path, text))
    assert [
        "vhosts[0].passwordFile (line 6): 'nosuch' cannot be read: No such file or directory",
        "vhosts[0].fencin (line 10): is not a known field; did you mean fencing?",
        "vhosts[1].vhid (line 15): 300 is not between 1 and 255",
    ] == errors


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "vhosts: is required: a list of at least one vhost"),
        ("vhosts: []", "vhosts: is required: a list of at least one vhost"),
        ("vhosts: {}", "is not a list"),
        ("[]", "is not a mapping of fields"),
        ("a: [", "is no YAML"),
        ("a: 2001-99-99", "2001-99-99"),
        ("vhost: []", "did you mean vhosts?"),
        ("\x00", "is no YAML"),
    ],
)
def test_something_else_than_vhosts(tmp_path: Path, text: str, error: str) -> None:
    """One line, never an exception of another kind."""
    errors = _errors(_write(tmp_path, text))
    assert any(error in line for line in errors), errors
    assert all("\n" not in line for line in errors)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The error names it and the reason."""
    (error,) = _errors(str(tmp_path / "nosuch.yaml"))
    assert "nosuch.yaml" in error
    assert error.endswith("cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("second", "path"),
    [
        ({"name": "ingress", "vhid": 43, "addresses": ["10.1.1.9"]}, "vhosts[1].name"),
        ({"name": "b", "vhid": 42, "addresses": ["10.1.1.9"]}, "vhosts[1].vhid"),
        ({"name": "b", "vhid": 43, "addresses": ["10.1.1.9", "10.1.1.252/24"]}, "vhosts[1].addresses"),
    ],
)
def test_what_two_vhosts_cannot_share(second: dict[str, object], path: str) -> None:
    """A name, a vhid on an interface, an address: the error names the vhost that was first."""
    with pytest.raises(ConfigErrors) as caught:
        parse({"vhosts": [_vhost(), _vhost(**second)]})
    (error,) = caught.value.errors
    assert str(error).startswith(path)
    assert "is already used by vhost ingress" in str(error)


def test_what_two_vhosts_can_share() -> None:
    """The same vhid on another interface, the same password."""
    second = _vhost(name="b", interface="eth1", addresses=["10.2.1.252"])
    configs, _ = parse({"vhosts": [_vhost(), second]})
    assert [config(), config(**{k: second[k] for k in ("name", "interface", "addresses")})] == configs


def test_an_entry_keeps_its_number(tmp_path: Path) -> None:
    """A mistake in an earlier entry does not shift the path of a later duplicate."""
    with pytest.raises(ConfigErrors) as caught:
        parse({"vhosts": [_vhost(name="bad", vhid=0), _vhost(), _vhost(vhid=43)]})
    errors = [str(error) for error in caught.value.errors]
    assert "vhosts[0].vhid: 0 is not between 1 and 255" in errors
    assert all(not error.startswith("vhosts[1]") for error in errors)
    assert any(error.startswith("vhosts[2].name") for error in errors)
