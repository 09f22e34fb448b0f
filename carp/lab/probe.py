"""The process that measures: `python -m carp.lab.probe ADDRESS INTERFACE INTERVAL_MS ARP_MS FILE`.

Runs inside the client's namespace, so that nothing else the lab does disturbs its timing. Echo requests go
through the kernel's own neighbour table, as any program's would; beside them ARP requests (or neighbour
solicitations) ask who owns the address. While it runs it writes one JSON line whenever the owner changes
and every 50 ms; at end of file on standard input it waits for late answers and writes everything it
recorded to FILE (`measure.save`). All times are CLOCK_MONOTONIC in nanoseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import ipaddress
import json
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

from carp.lab import frames
from carp.lab.measure import LATE_NS, Samples

_STATUS_NS = 50_000_000
_SO_ATTACH_FILTER = 26
_SOL_RAW = 255
_ICMP_FILTER = 1
_ICMP6_FILTER = 1
_BURST = 64
# "ldb [20]; jne 58; ldb [54]; jne 136; ret all": neighbour advertisements only.
_ADVERTISEMENTS = (
    (0x30, 0, 0, 20),
    (0x15, 0, 3, 58),
    (0x30, 0, 0, 54),
    (0x15, 0, 1, 136),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


class Echo:
    """Ask for an answer every interval and note when each came."""

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, samples: Samples) -> None:
        self._version = address.version
        self._samples = samples
        self._identifier = os.getpid() & 0xFFFF
        self.answered = 0
        self.last_answer = 0
        self.socket = _echo_socket(str(address), self._version)

    def send(self, now: int) -> None:
        """Send the next request; one that the kernel refuses (no route, no neighbour) counts as lost."""
        samples = self._samples
        index = len(samples.sent)
        samples.sent.append(now)
        samples.answered.append(0)
        request = frames.echo_request(self._version, self._identifier, index)
        for _ in range(2):  # a first refusal may report what an earlier request met
            with contextlib.suppress(OSError):
                self.socket.send(request)
                return

    def receive(self) -> None:
        """Take the answers that have arrived."""
        samples = self._samples
        for _ in range(_BURST):
            try:
                message = self.socket.recv(256)
            except BlockingIOError:
                return
            except OSError:  # an error that an earlier request caused, reported here
                continue
            now = time.monotonic_ns()
            if self._version == 4:
                message = message[(message[0] & 15) * 4 :]
            index = frames.echo_reply_index(message, self._identifier)
            if index is not None and index < len(samples.sent) and not samples.answered[index]:
                samples.answered[index] = now
                self.answered += 1
                self.last_answer = now


class Owners:
    """Ask who owns the address and note who says so, question by question."""

    def __init__(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, interface: str, samples: Samples
    ) -> None:
        self._address = address.packed
        self._samples = samples
        self._v4 = address.version == 4
        self._closed = 0  # questions whose answers have been judged for `current`
        self._answers: dict[int, set[str]] = {}
        self.current: frozenset[str] = frozenset()
        protocol = frames.ETH_P_ARP if self._v4 else frames.ETH_P_IPV6
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        if not self._v4:
            _attach_filter(self.socket)
        self.socket.bind((interface, protocol))
        self.socket.setblocking(False)
        self._mac: bytes = self.socket.getsockname()[4]
        self._ring = (
            [frames.nd_request(self._mac, self._address, n) for n in range(16)] if not self._v4 else []
        )

    def send(self, now: int) -> None:
        """Ask once more."""
        index = len(self._samples.asked)
        self._samples.asked.append(now)
        frame = frames.arp_request(self._mac, self._address, index) if self._v4 else self._ring[index % 16]
        with contextlib.suppress(OSError):
            self.socket.send(frame)

    def receive(self) -> None:
        """Take the answers that have arrived."""
        last = len(self._samples.asked) - 1
        for _ in range(_BURST):
            try:
                frame = self.socket.recv(256)
            except (BlockingIOError, OSError):
                return
            if self._v4:
                found = frames.arp_answer(frame, self._address)
            else:
                found = frames.nd_answer(frame, self._address, last)
            if found is not None and 0 <= found[0] <= last:
                owner = frames.mac_text(found[1])
                self._samples.note_owner(found[0], owner)
                self._answers.setdefault(found[0], set()).add(owner)

    def settle(self) -> bool:
        """Judge the question before the last one; return True if the owner is now another.

        Three questions in a row without an answer are nobody; fewer are a lost frame.
        """
        before, last = self.current, len(self._samples.asked) - 1
        while self._closed < last:
            answers = self._answers.get(self._closed)
            if answers:
                self.current = frozenset(answers)
            elif not any(n in self._answers for n in range(max(0, self._closed - 2), self._closed)):
                self.current = frozenset()
            self._answers.pop(self._closed - 2, None)
            self._closed += 1
        return before != self.current


def _echo_socket(address: str, version: int) -> socket.socket:
    if version == 4:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", ~1 & 0xFFFFFFFF))  # echo reply alone
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        wanted = [0xFFFFFFFF] * 8
        wanted[129 >> 5] &= ~(1 << (129 & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("8I", *wanted))
    sock.connect((address, 0))
    sock.setblocking(False)
    return sock


def _attach_filter(sock: socket.socket) -> None:
    code = b"".join(struct.pack("HBBI", *each) for each in _ADVERTISEMENTS)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_ADVERTISEMENTS), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class Recorder:
    """The loop: send what is due, take what has come, say what changed."""

    def __init__(self, address: str, interface: str, interval_ms: float, arp_ms: float) -> None:
        self.samples = Samples()
        target = ipaddress.ip_address(address)
        self._echo = Echo(target, self.samples)
        self._owners = Owners(target, interface, self.samples)
        self._interval = int(interval_ms * 1e6)
        self._arp_interval = int(arp_ms * 1e6)

    def run(self) -> None:
        """Measure until end of file on standard input."""
        now = time.monotonic_ns()
        probe_at = arp_at = status_at = now
        while True:
            now = time.monotonic_ns()
            if now >= probe_at:
                self._echo.send(now)
                probe_at = max(probe_at + self._interval, now)  # a stalled client does not send a burst
            if now >= arp_at:
                self._owners.send(now)
                arp_at = max(arp_at + self._arp_interval, now)
                if self._owners.settle():
                    status_at = now
            if now >= status_at:
                self._say(now)
                status_at = now + _STATUS_NS
            if self._wait(min(probe_at, arp_at)):
                return

    def drain(self) -> None:
        """Wait for answers to the last requests, at most the second that a late one may take."""
        end = time.monotonic_ns() + LATE_NS
        while time.monotonic_ns() < end and not all(self.samples.answered[-2000:]):
            self._wait(end, control=False)

    def _wait(self, until: int, *, control: bool = True) -> bool:
        """Sleep until something is due or arrives; return True at end of file on standard input."""
        watched: list[socket.socket | int] = [self._echo.socket, self._owners.socket]
        if control:
            watched.append(0)
        ready, _, _ = select.select(watched, [], [], max(0, until - time.monotonic_ns()) / 1e9)
        if self._echo.socket in ready:
            self._echo.receive()
        if self._owners.socket in ready:
            self._owners.receive()
        return 0 in ready and not os.read(0, 4096)

    def _say(self, now: int) -> None:
        line = {
            "t": now,
            "sent": len(self.samples.sent),
            "answered": self._echo.answered,
            "last": self._echo.last_answer,
            "owners": sorted(self._owners.current),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Run as described at the top of the module."""
    address, interface, interval_ms, arp_ms, path = argv
    recorder = Recorder(address, interface, float(interval_ms), float(arp_ms))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection in the middle would look like an outage
    recorder.run()
    recorder.drain()
    Path(path).write_bytes(recorder.samples.dump())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
