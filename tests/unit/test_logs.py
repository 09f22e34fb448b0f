from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest

from carp import logs
from carp.logs import Quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOG = logging.getLogger("carp.test")
FIELDS = {"fields": {"vhost": "eth0.7", "event": "state", "old": "BACKUP"}}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    logger = logging.getLogger("carp")
    kept = logger.handlers[:], logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = kept


def _setup(
    *, json: bool = False, debug: bool = False, facility: str | None = None, daemon: bool = False
) -> None:
    logs.setup(json=json, debug=debug, facility=facility, daemon=daemon)


def _flood(log: Callable[..., None], lines: int) -> None:
    for _ in range(lines):
        log("%s", "x" * 900)


def test_text_goes_where_ucarps_goes(capfd: pytest.CaptureFixture[str]) -> None:
    """Information goes to standard output, warnings and errors to standard error, debugging nowhere."""
    _setup()
    LOG.info("is %s", "master", extra=FIELDS)
    LOG.warning("look", extra=FIELDS)
    LOG.error("no vhost")
    LOG.debug("unseen")
    out, err = capfd.readouterr()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
    assert re.fullmatch(rf"{time} INFO eth0\.7 is master\n", out)
    assert re.fullmatch(rf"{time} WARNING eth0\.7 look\n{time} ERROR - no vhost\n", err)


def test_debug_shows_more(capfd: pytest.CaptureFixture[str]) -> None:
    """--debug shows debugging lines."""
    _setup(debug=True)
    LOG.debug("seen")
    assert capfd.readouterr().out.endswith(" DEBUG - seen\n")


def test_json_lines_hold_every_field(capfd: pytest.CaptureFixture[str]) -> None:
    """A JSON line has its time in UTC, level, logger, vhost, event, message, and what else was given."""
    _setup(json=True)
    LOG.info("is %s", "mäster", extra=FIELDS)
    out, err = capfd.readouterr()
    line = json.loads(err)
    assert "" == out
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert {
        "level": "INFO",
        "logger": "carp.test",
        "vhost": "eth0.7",
        "event": "state",
        "message": "is mäster",
        "old": "BACKUP",
    } == line


def test_an_exception_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """An exception and a message with line ends stay in one line, with the place that raised."""
    _setup()
    try:
        int("x")
    except ValueError:
        LOG.exception("two\nlines")
    err = capfd.readouterr().err
    assert 1 == err.count("\n")
    assert "two\\nlines (ValueError(" in err
    assert "test_logs.py:" in err


def test_a_daemon_writes_to_no_stream(capfd: pytest.CaptureFixture[str]) -> None:
    """In the background nothing goes to the standard streams."""
    _setup(daemon=True)
    LOG.error("unseen")
    assert ("", "") == capfd.readouterr()


def test_a_stuck_reader_delays_nothing_and_is_told_what_it_missed() -> None:
    """Lines into a full pipe are left out at once; the first line after it says how many."""
    reader, writer = os.pipe()
    kept = os.dup(2)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        _setup()
        worker = threading.Thread(target=_flood, args=(LOG.warning, 200))
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
        while len(os.read(reader, 65536)) == 65536:
            continue
        LOG.warning("back")
        told = os.read(reader, 65536).decode().splitlines()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(reader)
    assert re.search(r"WARNING - \d+ log lines are lost: nobody read them$", told[-2])
    assert told[-1].endswith("WARNING - back")


def test_syslog_gets_facility_severity_and_ident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Syslog datagrams bear facility and severity, the ident carp with the pid, and the vhost."""
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        _setup(facility="local3", daemon=True)
        LOG.info("is master", extra=FIELDS)
        LOG.error("alone")
        assert f"<{19 * 8 + 6}>carp[{os.getpid()}]: eth0.7: is master" == server.recv(1000).decode()
        assert f"<{19 * 8 + 3}>carp[{os.getpid()}]: alone" == server.recv(1000).decode()


def test_syslog_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a syslog daemon lines are left out; a new daemon gets the next one."""
    path = tmp_path / "log"
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(path))
    _setup(facility="daemon", daemon=True)
    LOG.info("unheard")
    for attempt in ("first", "second"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(path))
            LOG.info(attempt)
            assert server.recv(1000).decode().endswith(f": {attempt}")
        path.unlink()


def test_a_full_syslog_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A syslog daemon that stopped reading loses lines and does not hold up the caller."""
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        _setup(facility="daemon", daemon=True)
        worker = threading.Thread(target=_flood, args=(LOG.info, 2000))
        worker.start()
        worker.join(10)
        assert not worker.is_alive()


@pytest.mark.parametrize(
    "name", ["daemon", "auth", "authpriv", "security", "user", "local0", "local7", "none"]
)
def test_ucarps_facilities_are_known(name: str) -> None:
    """The facilities that ucarp names are known."""
    assert name in logs.FACILITIES


def test_quiet_lets_one_a_minute_pass() -> None:
    """A key passes at once, then once a minute with the number kept back; other keys are apart (B19)."""
    quiet = Quiet()
    assert 0 == quiet.allow("a", 5.0)
    assert [None, None, 0] == [quiet.allow("a", 6.0), quiet.allow("a", 64.9), quiet.allow("b", 64.9)]
    assert 2 == quiet.allow("a", 65.0)
    assert 0 == quiet.allow("a", 125.0)


def test_quiet_forgets_old_keys_and_holds_only_so_many() -> None:
    """Forged sources fill no memory: beyond 1024 in a minute they share one key, and old ones go."""
    quiet = Quiet()
    assert 1024 + 1 == sum(quiet.allow(number, 1.0) is not None for number in range(5000))
    assert 0 == quiet.allow("new", 61.0)
    assert len(quiet._keys) < 10


def test_quiet_looks_at_few_keys_per_call() -> None:
    """A flood of forged sources looks at no more keys than it drops, and keys that passed late stay."""
    quiet, looked = Quiet(), []

    class Keys(OrderedDict[object, tuple[float, int]]):
        def values(self) -> Any:
            looked.append(1)
            return super().values()

        def items(self) -> Any:
            pytest.fail("it went through all keys")

    quiet._keys = Keys()
    assert 1024 == sum(quiet.allow(number, number / 100) == 0 for number in range(1024))
    assert 0 == quiet.allow(0, 60.0)
    for number in range(10_000):
        quiet.allow(f"flood {number}", 60.5)
    # Keys 1 to 50 made room for 50 of the flood; the others share one, and looked at the oldest only.
    assert {0, 51, "flood 49", None} <= set(quiet._keys)
    assert not {1, 50, "flood 50"} & set(quiet._keys)
    assert len(looked) <= 10_000 + 100
