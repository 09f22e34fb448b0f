from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

import pytest

from carp.command import Command, command
from carp.core.config import Fencing, PreemptMode, SealMode, TransportMode
from carp.core.errors import ConfigErrors
from carp.options import scan

if TYPE_CHECKING:
    from pathlib import Path

BASE = ["-v", "7", "-a", "10.1.1.252"]


def _command(*words: str, **environ: str) -> Command:
    return command(scan(words), environ or {"CARP_PASSWORD": "love"})


def _errors(*words: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        _command(*words, **environ)
    return str(caught.value).splitlines()


def test_the_least_that_is_needed() -> None:
    """A vhid, an address and a password are enough: carp holds the address and the kernel fences it."""
    made = _command(*BASE)
    config = made.config
    assert ("auto-10.1.1.252.7", 7, "auto", b"love") == (
        config.name,
        config.vhid,
        config.interface.subnet,
        config.sign.password,
    )
    assert (ip_interface("10.1.1.252/32"),) == config.addresses
    assert config.fenced
    assert not config.scripts.on_exit
    assert ((), "/run/carp", "daemon") == (made.notes, made.state_dir, made.facility)
    assert not any((made.release, made.background, made.debug, made.json))


@pytest.mark.parametrize(
    ("words", "attribute", "expected"),
    [
        (["-i", "eth0"], "interface.name", "eth0"),
        (["--interface=eth0"], "name", "eth0.7"),
        (["-i", "br@x"], "name", "br-x.7"),
        (["-s", "10.1.1.1"], "source", ip_address("10.1.1.1")),
        (["-s", "10.1.1.1", "-s", "10.1.1.2"], "source", ip_address("10.1.1.2")),
        (["--srcip", "fe80::1"], "source6", ip_address("fe80::1")),
        (["-m", "224.0.0.20"], "transport.group4", ip_address("224.0.0.20")),
        (["--mcast", "ff02::99"], "transport.group6", ip_address("ff02::99")),
        (["-v", "255"], "vhid", 255),
        (["-p", "hate"], "sign.password", b"hate"),
        (["-p", "h\udcff"], "sign.password", b"h\xff"),
        (["-P"], "preempt.mode", PreemptMode.ALWAYS),
        (["--preempt-after", "30s"], "preempt.after", 30.0),
        (["-P", "--preempt-after", "1m30s"], "preempt.mode", PreemptMode.AFTER),
        (["-n"], "scripts.neutral", True),
        (
            ["--addr", "2001:db8::1/64", "--address=10.1.1.253/24"],
            "addresses",
            tuple(map(ip_interface, ("10.1.1.252/32", "2001:db8::1/64", "10.1.1.253/24"))),
        ),
        (["-b", "3"], "timing.advbase", 3),
        (["-k", "100"], "timing.advskew", 100),
        (["-r", "5"], "timing.ratio", 5),
        (["-b", "0", "-k", "20"], "seal", SealMode.SEALED),
        (["-d", "/down"], "scripts.down", "/down"),
        (["-z"], "scripts.on_exit", True),
        (["-S"], "ignore_link_state", True),
        (["-M"], "transport.mode", TransportMode.BROADCAST),
        (["-x", "a b"], "scripts.argument", "a b"),
        (["-x", ""], "scripts.argument", ""),
        (["--peer", "10.1.1.2", "--peer", "10.1.1.3"], "transport.mode", TransportMode.UNICAST),
        (["--peer", "2001:db8::2"], "transport.peers", (ip_address("2001:db8::2"),)),
        (["--fencing", "Off"], "fencing", Fencing.OFF),
        (["--seal"], "seal", SealMode.SEALED),
    ],
)
def test_options_reach_the_settings(words: list[str], attribute: str, expected: object) -> None:
    """Each option sets the field that the table names for it."""
    value: object = _command(*BASE, *words).config
    for part in attribute.split("."):
        value = getattr(value, part)
    assert expected == value


@pytest.mark.parametrize(
    ("words", "attribute", "expected"),
    [
        (["-f", "local3"], "facility", "local3"),
        (["-f", "LOCAL3"], "facility", "local3"),
        (["-f", "none"], "facility", None),
        (["-D"], "debug", True),
        (["-B"], "background", True),
        (["--json"], "json", True),
        (["--release"], "release", True),
        (["--state-dir", "/some/where"], "state_dir", "/some/where"),
    ],
)
def test_options_of_the_process(words: list[str], attribute: str, expected: object) -> None:
    """Options that are not the vhost's say how the process runs."""
    assert expected == getattr(_command(*BASE, *words), attribute)


def test_with_an_up_script_carp_sets_no_address() -> None:
    """With an up script the scripts set the address, and a note says that no fence is there."""
    made = _command(*BASE, "-u", "/bin/true", "-d", "/bin/true")
    assert not made.config.manage
    assert not made.config.fenced
    assert ["the scripts set the address"] == [note.split(",")[0] for note in made.notes]


def test_a_fence_beside_scripts_can_be_asked_for() -> None:
    """--fencing Lifetime makes carp set the address although there is an up script."""
    made = _command(*BASE, "-u", "/bin/true", "--fencing", "Lifetime")
    assert made.config.fenced
    assert () == made.notes


def test_scripts_keep_their_place_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are made absolute before the process changes its folder (ucarp's -B breaks them)."""
    monkeypatch.chdir(tmp_path)
    made = _command(*BASE, "-u", "up.sh", "-d", "./down.sh", "--state-dir", "state")
    assert (str(tmp_path / "up.sh"), str(tmp_path / "down.sh")) == (
        made.config.scripts.up,
        made.config.scripts.down,
    )
    assert str(tmp_path / "state") == made.state_dir
    assert f"--upscript (-u): '{tmp_path}/up.sh' is no program that can be run" in made.notes


def test_the_last_password_counts(tmp_path: Path) -> None:
    """Of -p and -o the last one is used, as with ucarp; the one before is not even read."""
    path = tmp_path / "pass"
    path.write_bytes(b"filed\n")
    path.chmod(0o644)
    filed = _command(*BASE, "-p", "inline", "-o", str(path))
    assert b"filed" == filed.config.sign.password
    assert [f"{path} can be read by others (mode 0644): chmod 600 {path}"] == list(filed.notes)
    inline = _command(*BASE, "-o", str(tmp_path / "none"), "-p", "inline")
    assert b"inline" == inline.config.sign.password
    assert ["every user of this host can see what --pass gives: better use --passfile FILE"] == list(
        inline.notes
    )


def test_no_script_inherits_the_password() -> None:
    """CARP_PASSWORD is taken out of the environment, whether it is used or not (B18)."""
    environ = {"CARP_PASSWORD": "love", "PATH": "/bin"}
    command(scan([*BASE, "-p", "inline"]), environ)
    assert {"PATH": "/bin"} == environ


DECIMAL = "is not a decimal number, written without sign, 0x or a leading 0"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        # B21: ucarp takes most of these, as another number than the one that stands there.
        (["-v", "256"], "--vhid (-v): 256 is not between 1 and 255"),
        (["-v", "0"], "--vhid (-v): 0 is not between 1 and 255"),
        (["-v", "0x10"], f"--vhid (-v): '0x10' {DECIMAL}"),
        (["-v", "010"], f"--vhid (-v): '010' {DECIMAL}"),
        (["-v", "7abc"], f"--vhid (-v): '7abc' {DECIMAL}"),
        (["-v", "\u0667"], f"--vhid (-v): '\u0667' {DECIMAL}"),
        (["-b", "256"], "--advbase (-b): 256 is not between 0 and 255"),
        (["-k", "256"], "--advskew (-k): 256 is not between 0 and 254"),
        (["-r", "-1"], f"--deadratio (-r): '-1' {DECIMAL}"),
        (["-r", "0"], "--deadratio (-r): 0 is not between 1 and 255"),
        (["-k", ""], "--advskew (-k): '' is empty"),
        (["-i", ""], "--interface (-i): '' is empty"),
        (["-i", "a/b"], "--interface (-i): 'a/b' is no interface name: 1 to 15 characters"),
        (["-s", "10.1.1"], "--srcip (-s): '10.1.1' is not an IPv4 address"),
        (["-s", "fe80:"], "--srcip (-s): 'fe80:' is not an IPv6 address"),
        (["-m", "10.1.1.1"], "--mcastip (-m): '10.1.1.1' is not a multicast address"),
        (["-m", "fe80::1"], "--mcastip (-m): 'fe80::1' is not a multicast address"),
        (["-a", "10.1.1"], "--address (-a): '10.1.1' is not an IP address"),
        (["-a", "127.0.0.1"], "--address (-a): '127.0.0.1' is a loopback address"),
        (["-a", "224.0.0.1"], "--address (-a): '224.0.0.1' is a multicast address"),
        (["-a", "10.1.1.252"], "--address (-a): '10.1.1.252' stands in the list twice"),
        (["-b", "0"], "--advskew (-k): 0 with advbase 0"),
        (["-p", ""], "--pass (-p): is empty"),
        (["-p", "x" * 20], "--pass (-p): has 20 bytes, more than 19"),
        (["-o", "/none"], "--passfile (-o): '/none' cannot be read: No such file or directory"),
        (["-f", "nonsense"], "--facility (-f): 'nonsense' is not one of auth, authpriv"),
        (["--peer", "peer"], "--peer: 'peer' is not an IP address"),
        (["--peer", "10.1.1.2", "-M"], "--peer: excludes --nomcast (-M)"),
        (["--preempt-after", "30"], "--preempt-after: '30' is not a duration"),
        (["--fencing", "Lease"], "--fencing: 'Lease' is not supported by this version"),
        (["--fencing", "on"], "--fencing: 'on' is not one of Lifetime, Off"),
        (["-u", ""], "--upscript (-u): '' is empty"),
    ],
)
def test_wrong_values_name_their_option(words: list[str], line: str) -> None:
    """A wrong value is one line with the option, the value and what is wrong."""
    errors = _errors(*BASE, *words)
    assert [True] == [error.startswith(line) for error in errors], errors


def test_what_is_missing_is_named() -> None:
    """The three things that are needed are asked for by their options."""
    errors = _errors(PATH="")
    wanted = ["--vhid (-v): is required", "--address (-a): is required", "--passfile (-o): is required"]
    assert wanted == [re.sub("required.*", "required", error) for error in errors]


def test_a_password_is_in_no_message() -> None:
    """A password that is refused is not repeated, wherever it comes from."""
    secret = "far too long a password"
    assert secret not in str(_errors(*BASE, "-p", secret))
    errors = _errors(*BASE, CARP_PASSWORD=secret)
    assert [True] == [error.startswith("CARP_PASSWORD: has 23 bytes, more than 19") for error in errors]
    assert secret not in str(errors)
