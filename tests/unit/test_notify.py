from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from carp.daemon.notify import FEEDS_PER_INTERVAL, Notifier, Watchdog, watchdog_interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and its name in the environment."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@carp-t-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        listener.bind(name.replace("@", "\0"))
        yield listener, name


def _lines(listener: socket.socket) -> list[str]:
    return listener.recv(65536).decode().split("\n")


def _fill(name: str) -> int:
    """Send until the queue of the manager is full; return how many went in."""
    count = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other:
        while True:
            try:
                other.sendto(b"x", name.replace("@", "\0"))
            except BlockingIOError:
                return count
            count += 1


def test_every_message_reaches_the_manager(manager: tuple[socket.socket, str]) -> None:
    """Each call is one datagram of KEY=VALUE lines, over a path and an abstract socket alike."""
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("2 vhosts")
    assert ["READY=1", "STATUS=2 vhosts"] == _lines(listener)
    notifier.ready()
    assert ["READY=1"] == _lines(listener)
    notifier.status("1 master\nREADY=0")
    assert ["STATUS=1 master READY=0"] == _lines(listener)
    notifier.watchdog()
    assert ["WATCHDOG=1"] == _lines(listener)
    notifier.stopping("handing over")
    assert ["STOPPING=1", "STATUS=handing over"] == _lines(listener)
    notifier.close()


def test_reload_bears_the_monotonic_time(manager: tuple[socket.socket, str]) -> None:
    """RELOADING=1 comes with the time of the monotonic clock in microseconds, as notify-reload asks."""
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    reloading, stamp = _lines(listener)
    key, _, value = stamp.partition("=")
    assert ("RELOADING=1", "MONOTONIC_USEC") == (reloading, key)
    assert before <= int(value) <= time.monotonic_ns() // 1000
    notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    """Every call does nothing when nobody wants to know, or by a way that is not ours."""
    notifier = Notifier(environ)
    for call in (notifier.ready, notifier.reloading, notifier.stopping, notifier.watchdog, notifier.close):
        call()
    notifier.status("text")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "/" + "x" * 200, "@nobody-listens-here"])
def test_dead_manager_is_no_error(name: str) -> None:
    """A socket that is gone, or cannot be one, raises nothing."""
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.close()
    notifier.ready()


def test_full_socket_neither_blocks_nor_loses(manager: tuple[socket.socket, str]) -> None:
    """What does not leave is said with the next message; a later status replaces an earlier one."""
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    queued = _fill(name)
    notifier.ready("starting")
    notifier.status("started")
    assert [b"x"] * queued == [listener.recv(65536) for _ in range(queued)]
    notifier.watchdog()
    assert ["READY=1", "STATUS=started", "WATCHDOG=1"] == _lines(listener)
    notifier.close()


def test_lost_reload_is_not_repeated_after_its_end(tmp_path: Path) -> None:
    """READY after an unsent RELOADING says READY alone, and RELOADING after an unsent READY itself alone."""
    name = str(tmp_path / "late")
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.reloading()
    notifier.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        listener.bind(name)
        notifier.watchdog()
        assert ["READY=1", "WATCHDOG=1"] == _lines(listener)
    notifier.reloading()
    notifier.stopping()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        (tmp_path / "late").unlink()
        listener.bind(name)
        notifier.watchdog()
        assert ["STOPPING=1", "WATCHDOG=1"] == _lines(listener)
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_watchdog_interval_is_this_process_own(environ: dict[str, str], interval: float | None) -> None:
    """The interval counts only when it is a time and meant for this process."""
    assert interval == watchdog_interval(environ)


def test_watchdog_is_fed_often_enough_and_not_at_every_turn(tmp_path: Path) -> None:
    """At 100 turns a second an interval of 3 s is fed once a second; without one, never."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        for interval, feeds in ((3.0, 10), (None, 0)):
            watchdog = Watchdog(notifier, interval)
            fed = 0
            for turn in range(1000):
                watchdog.turned(100.0 + turn / 100)
                try:
                    assert b"WATCHDOG=1" == listener.recv(100)
                    fed += 1
                except BlockingIOError:
                    pass
            assert feeds == fed
        notifier.close()
    assert FEEDS_PER_INTERVAL >= 2
