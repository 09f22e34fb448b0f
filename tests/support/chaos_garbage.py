"""Nonsense for carpd: on its control socket and on the wire. `from chaos_garbage import …`."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Final

from carp.core import wire
from carp.lab.frames import checksum

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from carp.lab.node import Node
    from sniffer import Frame

_GROUP4: Final = bytes.fromhex("e0000012")
_GROUP6: Final = bytes.fromhex("ff02" + "00" * 13 + "12")
_MAC4: Final = bytes.fromhex("01005e000012")
_MAC6: Final = bytes.fromhex("333300000012")
_VRRP2: Final = bytes.fromhex("210a64010001b9c50a000001" + "00" * 8)
_VRRP3: Final = bytes.fromhex("310bc8010064e4f10a000002")
_LINE: Final = 5 << 20
"""Bytes of a line that is longer than any request may be."""


class Pests:
    """Clients of a control socket that misbehave; those that stay connected do so until `close`."""

    def __init__(self, path: str, rng: random.Random) -> None:
        self._path = path
        self._rng = rng
        self._staying: list[socket.socket] = []

    def _connect(self, seconds: float = 3.0) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._path)  # waits for room in the queue, which one with a time limit does not
        sock.settimeout(seconds)
        return sock

    def _say(self, data: bytes) -> str:
        """Send and return what is answered until the connection is ended by the other side."""
        with self._connect() as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                while part := sock.recv(1 << 16):
                    answer += part
        return answer.decode(errors="replace")

    def malformed(self) -> str:
        """Send lines that are no requests; each is answered by an error and the end."""
        lines = (
            b"{", b"[]", b"null", b"\xff\xfe", b'"' * 9, b"[" * 60_000, b'{"v":2,"op":"status"}', b'{"v":1}',
            b'{"v":1,"op":7}', b"\x00" * 100, b'{"v":1,"op":"status"',
            self._rng.randbytes(500).replace(b"\n", b""),
        )  # fmt: skip
        for line in lines:
            answer = self._say(line + b"\n")
            if '"ok":false' not in answer:
                msg = f"{line[:40]!r} is answered {answer[:80]!r}"
                raise AssertionError(msg)
        return f"{len(lines)} malformed lines"

    def huge(self) -> str:
        """Send a line without end."""
        answer = self._say(b'{"v":1,"op":"' + b"a" * _LINE)
        if answer and "more than" not in answer:
            msg = f"a huge line is answered {answer[:80]!r}"
            raise AssertionError(msg)
        return f"a line of {_LINE >> 20} MiB"

    def half(self) -> str:
        """Begin a line and say no more."""
        sock = self._connect()
        sock.sendall(b'{"v":1,"op":"st')
        self._staying.append(sock)
        return "half a line and no more"

    def many(self) -> str:
        """Connect more often than allowed, and go again."""
        made = []
        for _ in range(100):
            with contextlib.suppress(OSError):
                made.append(self._connect(0.5))
        for sock in made:
            sock.close()
        return f"{len(made)} connections at once"

    def deaf(self) -> str:
        """Ask and watch, and never read."""
        sock = self._connect()
        sock.setblocking(False)
        lines = [{"v": 1, "id": 1, "op": "watch"}, *[{"v": 1, "id": 2, "op": "status"}] * 300]
        with contextlib.suppress(BlockingIOError):
            sock.send("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._staying.append(sock)
        return "a watcher that asks 300 times and never reads"

    def wrong(self) -> str:
        """Ask well-formed requests for what cannot be."""
        requests: tuple[dict[str, object], ...] = (
            {"op": "nosuch"}, {"op": "apply"}, {"op": "apply", "vhosts": [], "uid": "u-1"},
            {"op": "apply", "vhosts": [], "uid": "u-1", "generation": -5, "cluster": "c-1"},
            {"op": "demote", "name": "web", "reason": "x", "amount": 9e99}, {"op": "handover", "name": None},
            {"op": "maintenance", "on": "yes"},
            {"op": "demote", "name": "web", "reason": "health:x", "amount": 5},
        )  # fmt: skip
        for request in requests:
            with self._connect() as sock:
                sock.sendall(json.dumps({"v": 1, "id": 3, **request}).encode() + b"\n")
                answer = sock.recv(1 << 16)
            if b'"ok":false' not in answer:
                msg = f"{request} is answered {answer[:80]!r}"
                raise AssertionError(msg)
        return f"{len(requests)} impossible requests"

    def cut_off(self) -> bool:
        """Whether the other side has ended every connection that stayed."""
        return all(_ended(sock) for sock in self._staying)

    def close(self) -> None:
        """Close what stayed connected."""
        for sock in self._staying:
            sock.close()
        self._staying.clear()


def _ended(sock: socket.socket) -> bool:
    """Read what there is; whether its end comes within a second."""
    sock.settimeout(1.0)
    try:
        while sock.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def v4(payload: bytes, source: bytes, *, ttl: int = 255, mac: bytes = bytes(6)) -> bytes:
    """Return a frame of protocol 112 over IPv4."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0x4000, ttl, wire.PROTOCOL, 0)
    whole = head + source + _GROUP4
    whole = whole[:10] + struct.pack("!H", checksum(whole)) + whole[12:]
    return _MAC4 + mac + b"\x08\x00" + whole + payload


def v6(payload: bytes, source: bytes, *, hops: int = 255, mac: bytes = bytes(6)) -> bytes:
    """Return a frame of protocol 112 over IPv6."""
    head = struct.pack("!IHBB", 6 << 28, len(payload), wire.PROTOCOL, hops)
    return _MAC6 + mac + b"\x86\xdd" + head + source + _GROUP6 + payload


def noise(rng: random.Random, recorded: Sequence[Frame], count: int) -> list[bytes]:
    """Return frames that nobody may believe: random, cut, damaged, routed, replayed, another protocol's.

    ``recorded`` are adverts that were heard before: what an attacker has captured.
    """
    frames = [_one(rng, recorded) for _ in range(count)]
    return [each.data for each in recorded] + frames + [each.data for each in reversed(recorded)]


def _one(rng: random.Random, recorded: Sequence[Frame]) -> bytes:
    source4 = socket.inet_aton(f"10.99.0.{rng.choice((1, 2, 3, 77, 200))}")
    source6 = socket.inet_pton(socket.AF_INET6, f"fd99::{rng.choice((1, 2, 3, 77))}")
    payload = rng.choice(recorded).payload
    match rng.randrange(7):
        case 0:
            payload = rng.randbytes(rng.randrange(400))
        case 1:
            payload = payload[: rng.randrange(len(payload))]
        case 2:
            at = rng.randrange(len(payload))
            payload = payload[:at] + bytes([payload[at] ^ (1 << rng.randrange(8))]) + payload[at + 1 :]
        case 3:
            return v4(payload, source4, ttl=rng.choice((0, 1, 64, 254)))
        case 4:
            return v6(payload, source6, hops=rng.choice((0, 1, 64, 254)))
        case 5:
            payload = rng.choice((_VRRP2, _VRRP3))
        case _:
            payload += rng.randbytes(rng.randrange(1, 300))
    return v4(payload, source4) if rng.random() < 0.5 else v6(payload, source6)


def inject(node: Node, frames: Sequence[bytes]) -> None:
    """Send frames from a node, with its own hardware address: the switch must not learn a member's here."""

    def work() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind(("eth0", 0))
            mac = sock.getsockname()[4]
            for frame in frames:
                sock.send(frame[:6] + mac + frame[12:])

    node.run_in(work)
