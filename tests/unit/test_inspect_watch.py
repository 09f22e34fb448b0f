"""`carp watch` with a tap that replays packets on a clock of the test's own."""

from __future__ import annotations

import io
import json
import os
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import pytest

from carp.inspect import watch, watch_main
from carp.inspect.frames import Packet
from crafted import UCARP_HEADER, VRRP3

if TYPE_CHECKING:
    from collections.abc import Callable

LOVE = ("-p", "love", "-a", "10.99.0.252")


def packet(payload: bytes = UCARP_HEADER, mac: bytes = b"\0\0\x5e\0\0\x2a") -> Packet:
    """Make a packet from 10.99.0.1."""
    group = ip_address("224.0.0.18")
    return Packet(payload, len(payload), ip_address("10.99.0.1"), group, 255, mac)


class Tap:
    """Gives the packets one per second, then nothing; Ctrl-C after a thousand calls."""

    script: tuple[Packet | None, ...] = ()

    def __init__(self, interface: str) -> None:
        self.calls = 0

    def receive(self, timeout: float) -> Packet | None:
        self.calls += 1
        if self.calls > 1000:
            raise KeyboardInterrupt
        heard = self.script[self.calls - 1] if self.calls <= len(self.script) else None
        CLOCK.now += 1.0 if heard else timeout
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


CLOCK = SimpleNamespace(now=0.0)


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a script in the place of the wire."""
    CLOCK.now = 0.0
    monkeypatch.setattr(watch, "Tap", Tap)
    clock = SimpleNamespace(
        monotonic=lambda: CLOCK.now, time=lambda: 5000.0 + CLOCK.now, strftime=lambda form: "12:00:00"
    )
    monkeypatch.setattr(watch, "time", clock)

    def script(*packets: Packet | None) -> None:
        monkeypatch.setattr(Tap, "script", packets)

    return script


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_lines_where_the_output_is_no_terminal(
    replay: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """As decode's records, with the MAC and the interface; Ctrl-C ends with 0."""
    replay(packet(), None, packet(VRRP3, b""))
    assert 0 == watch_main(["-i", "eth7", *LOVE])
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert ["mac", "interface"] == list(first)[-2:]
    assert (5001.0, "ok", "00:00:5e:00:00:2a", "eth7") == tuple(
        first[n] for n in ("time", "hmac", "mac", "interface")
    )
    assert ("vrrp", 11, 200, None) == tuple(second[n] for n in ("protocol", "vrid", "priority", "mac"))


def test_a_count_ends_it(replay: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """Only packets that are shown count."""
    replay(packet(), packet(VRRP3), packet(), packet())
    assert 0 == watch_main(["-i", "eth7", "--vhid", "42", "--count", "2"])
    assert [5001.0, 5003.0] == [json.loads(line)["time"] for line in capsys.readouterr().out.splitlines()]


def test_seconds_end_it(replay: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """With traffic and without."""
    replay(*[packet()] * 9)
    assert 0 == watch_main(["-i", "eth7", "--seconds", "3"])
    assert 3 == len(capsys.readouterr().out.splitlines())
    assert 3.0 == CLOCK.now
    replay()
    assert 0 == watch_main(["-i", "eth7", "--seconds", "3"])
    assert 6.0 == CLOCK.now


def test_a_table_on_a_terminal(replay: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn over itself, and once more at the end."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((120, 24)))
    replay(packet(), packet())
    assert 0 == watch_main(["-i", "eth7", "--seconds", "3", *LOVE])
    pictures = out.getvalue().split("eth7: protocol 112, 12:00:00, Ctrl-C ends")
    assert pictures[1].endswith("\x1b[J\x1b[2F")
    assert pictures[2].endswith("\x1b[J\x1b[3F")
    lines = pictures[-1].replace("\x1b[K", "").replace("\x1b[J", "").splitlines()
    expected = [
        "carp",
        "42",
        "10.99.0.1",
        "master",
        "1/0",
        "0",
        "1.000",
        "1.0",
        "2",
        "ok",
        "00:00:5e:00:00:2a",
    ]
    assert expected == lines[-1].split()


def test_the_table_is_not_drawn_more_often_than_needed(
    replay: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a second between two pictures, whatever the traffic."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    table = watch.Table("eth7")
    replay()
    for now in (0.0, 0.1, 0.2, 0.25, 0.3, 0.49, 0.5):
        CLOCK.now = now
        table.refresh()
    assert 3 == out.getvalue().count("protocol 112")
    table.refresh(force=True)
    assert 4 == out.getvalue().count("protocol 112")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no interface: give --interface NAME"),
        (["-i", "nosuch0"], "--interface: 'nosuch0' does not exist"),
        (["-i", "lo", "--seconds", "0"], "--seconds: '0' is not a number from 1 to 1000000000"),
        (["-i", "lo", "--count", "many"], "--count: 'many' is not a number from 1 to 1000000000"),
        (
            ["-i", "lo", "--passfile", "/nonexistent"],
            "--passfile: '/nonexistent' cannot be read: No such file",
        ),
    ],
)
def test_what_the_user_got_wrong(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    assert 2 == watch_main(argv)
    assert capsys.readouterr().err.startswith(f"carp watch: {message}")


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with 0."""
    with pytest.raises(SystemExit) as caught:
        watch_main(["--help"])
    assert not caught.value.code
    assert 4 == capsys.readouterr().out.count("carp watch -i")
