"""What a vhost remembers between two runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carp.core.seal import Seal
from carp.state import BusyError, Memory
from pair import config

SEAL = Seal(last=1000, reserved=1500, newest=1400, floors={b"\x0a\1\1\2": 900, bytes(16): 7})


def _restart(folder: Path, seal: Seal = SEAL) -> Memory:
    """Store a seal and begin the next run."""
    memory = Memory(str(folder), config())
    memory.write(Memory.content(config(), seal, {vip.ip for vip in config().addresses}))
    memory.close()
    return Memory(str(folder), config())


def _stored(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "ingress.json").read_text())
    return content


def test_the_seal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The floor, the floors heard and the newest time survive; nothing later than the floor was sent."""
    found = _restart(tmp_path).seal()
    assert (1500, 1500, SEAL.floors) == (found.last, found.reserved, found.floors)
    assert found.next(0.0) == 1501


def test_a_newer_time_heard_survives(tmp_path: Path) -> None:
    """What was heard can be later than our own floor."""
    seal = Seal(last=1, reserved=5, newest=5000)
    assert 5001 == _restart(tmp_path, seal).seal().next(0.0)


def test_nothing_heard_yet(tmp_path: Path) -> None:
    """A lone member has heard nobody."""
    found = _restart(tmp_path, Seal(last=10, reserved=20)).seal()
    assert (20, {}) == (found.reserved, found.floors)


def test_the_first_run_knows_nothing(tmp_path: Path) -> None:
    """An empty folder is made and gives an empty seal and no proof."""
    memory = Memory(str(tmp_path / "a" / "b"), config())
    assert Seal() == memory.seal()
    assert not memory.proves(config())
    assert 0o700 == (tmp_path / "a" / "b").stat().st_mode & 0o777


def test_what_the_last_run_may_have_left(tmp_path: Path) -> None:
    """Its addresses, whatever the settings are now; none before the first, or from a damaged file."""
    assert set() == Memory(str(tmp_path / "new"), config()).left(config())
    memory = _restart(tmp_path)
    other = config(addresses=["10.1.1.99"])
    assert {"10.1.1.252"} == {str(ip) for ip in memory.left(other)}
    memory.close()
    content = _stored(tmp_path)
    for damaged in (["1"], "x", ["10.1.1.300"], None):
        (tmp_path / "ingress.json").write_text(json.dumps({**content, "addresses": damaged}))
        found = Memory(str(tmp_path), config())
        assert set() == found.left(config()), damaged
        found.close()


def test_a_file_of_a_version_without_addresses(tmp_path: Path) -> None:
    """What it proves is ours: an upgrade resumes."""
    _restart(tmp_path).close()
    content = _stored(tmp_path)
    del content["addresses"]
    (tmp_path / "ingress.json").write_text(json.dumps(content))
    found = Memory(str(tmp_path), config())
    assert {"10.1.1.252"} == {str(ip) for ip in found.left(config())}
    assert set() == found.left(config(password="other"))


def test_a_file_of_its_own_that_only_the_owner_reads(tmp_path: Path) -> None:
    """Mode 0600, named after the vhost, nothing temporary left."""
    _restart(tmp_path)
    assert 0o600 == (tmp_path / "ingress.json").stat().st_mode & 0o777
    assert {"ingress.json", "ingress.lock"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("fields", "proven"),
    [
        ({}, True),
        ({"advskew": 50, "interface": "eth1"}, True),
        ({"vhid": 43}, False),
        ({"password": "hate"}, False),
        ({"addresses": ["10.1.1.252", "10.1.1.253"]}, False),
        ({"addresses": ["10.1.1.252/24"]}, False),
        ({"deadRatio": 60}, False),
    ],
)
def test_a_lease_is_proven_by_vhid_addresses_lifetime_and_password(
    tmp_path: Path, fields: dict[str, Any], proven: bool
) -> None:
    """Any of them changed, and the address that the kernel holds is not ours to resume."""
    assert proven == _restart(tmp_path).proves(config(**fields))


def test_no_password_and_no_bare_hash_is_stored(tmp_path: Path) -> None:
    """The fingerprint is keyed by a salt of its own each time (rule 7)."""
    _restart(tmp_path).close()
    first = _stored(tmp_path)
    _restart(tmp_path)
    second = _stored(tmp_path)
    assert "love" not in (tmp_path / "ingress.json").read_text()
    assert first["salt"] != second["salt"]
    assert first["fingerprint"] != second["fingerprint"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b'{"version": 99}',
        b'{"version": 1}',
        b'{"version": 1, "seal": 5, "salt": 5, "fingerprint": []}',
        b'{"version": 1, "seal": {"reserved": null, "newest": null, "floors": {}, "wall": 1}, "salt": "x"}',
        b'{"version": 1, "seal": {"reserved": 1e999, "newest": null, "floors": {}, "wall": 1e999}}',
        b'{"version": 1, "seal": {"reserved": 1, "newest": null, "floors": [], "wall": 9e99}}',
        b'{"version": 1, "seal": {"reserved": 1, "newest": null, "floors": {"zz": 1}, "wall": 9e99}}',
    ],
)
def test_a_damaged_file_costs_its_memory_only(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in it, the vhost starts, with an empty seal and no lease to resume."""
    (tmp_path / "ingress.json").write_bytes(content)
    memory = Memory(str(tmp_path), config())
    assert Seal() == memory.seal()
    assert not memory.proves(config())


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_floors_are_forgotten_after_30_days(tmp_path: Path, days: int, kept: bool) -> None:
    """Times wrap after 194 days; what is that old could look like the future."""
    _restart(tmp_path).close()
    content = _stored(tmp_path)
    content["seal"]["wall"] -= days * 86400
    (tmp_path / "ingress.json").write_text(json.dumps(content))
    assert kept == bool(Memory(str(tmp_path), config()).seal().floors)


def test_another_process_with_the_same_vhost_is_refused(tmp_path: Path) -> None:
    """The lock is told with its path, and is gone with its process."""
    code = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    lock = tmp_path / "ingress.lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert "locked\n" == other.stdout.readline()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(
            BusyError, match=r"ingress: another process runs this vhost \(it holds .*\.lock\)"
        ):
            Memory(str(tmp_path), config())
        assert before == len(list(Path("/proc/self/fd").iterdir()))
        other.communicate("")
    Memory(str(tmp_path), config()).close()


def test_an_unusable_folder_is_an_error(tmp_path: Path) -> None:
    """A file where the folder should be raises OSError."""
    (tmp_path / "f").write_text("")
    with pytest.raises(OSError, match="f"):
        Memory(str(tmp_path / "f"), config())


def test_deeply_nested_content_is_damage_like_any_other(tmp_path: Path) -> None:
    """The run starts as if nothing were remembered."""
    (tmp_path / "ingress.json").write_bytes(b"[" * 100_000)
    assert Seal() == Memory(str(tmp_path), config()).seal()
