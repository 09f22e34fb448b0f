"""`carp decode`: one JSON object per CARP packet of a capture or of hex text."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from carp.core.errors import ConfigError
from carp.inspect.arguments import FAILED, UsageError, complain, keys_from, make_parser, run
from carp.inspect.capture import CaptureError, NotACaptureError, read_capture
from carp.inspect.frames import LINK_TYPES, Miss, Packet, dissect, dissect_bytes
from carp.inspect.verdict import judge

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from carp.inspect.arguments import Parser
    from carp.inspect.verdict import Keys

_DESCRIPTION: Final = """\
Print one JSON object per CARP packet: who sent it, what it says, whether its checksum and its HMAC are
right, and why a receiver would drop it (null: it would not). Other protocols on 112 (VRRP) are named.
"""
_EXAMPLES: Final = """\
examples:
  a capture, checked against the settings of vhid 42:
      carp decode --pcap capture.pcap --passfile /etc/carp/vip.pass --address 10.1.1.252 --vhid 42
  live, on a machine that has only tcpdump:
      tcpdump -U -w - -i eth0 ip proto 112 | carp decode --pcap -
  one header, copied from a log:
      carp decode --hex '212a000700010ca6 0123456789abcdef 055c5da8911cf2a311659afb98e4e262b116747e' \\
          --pass love --address 10.1.1.252
  why do two firewalls not hear each other?
      carp decode --pcap both.pcapng --passfile p -a 192.0.2.1 -a 2001:db8::1 | jq 'select(.drop)'

form: plain; openbsd = link-local addresses are hashed too, accepted as well; openbsd-mac = a MAC set by
hand on OpenBSD is hashed too, so others reject it; unknown.
sealed: whether a carp-operator sent it; null without a password.
exit code: 0; 1 when a part could not be read (said on standard error); 2 for wrong options.
"""
_SEPARATORS: Final = re.compile(r"(?<![0-9A-Fa-f])0[xX]|[\s:.,-]+")
_DUMP_OFFSET: Final = re.compile(r"^\s*0x[0-9A-Fa-f]{4}:\s", re.MULTILINE)
"""What tcpdump -x puts before each line."""


def decode_main(argv: Sequence[str]) -> int:
    """Run `carp decode` with the arguments after its name; return the exit code."""
    return run("decode", _work, argv)


def parser() -> Parser:
    """Return the command line of `carp decode`."""
    result = make_parser("decode", _DESCRIPTION, _EXAMPLES)
    source = result.add_argument_group("what to decode (at least one)")
    source.add_argument("--pcap", metavar="FILE", help="a pcap or pcapng capture; - is standard input")
    source.add_argument(
        "--hex",
        metavar="TEXT",
        action="append",
        default=[],
        help="an Ethernet frame, an IP packet or the 36 bytes of CARP; may be repeated",
    )
    return result


def _work(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    if arguments.pcap is None and not arguments.hex:
        msg = "nothing to decode: give --pcap FILE or --hex TEXT"
        raise UsageError(msg)
    packets = [(_from_hex(text), f"--hex: {_shown(text)!r}") for text in arguments.hex]
    decoder = _Decoder(keys_from(arguments, "decode"), arguments.vhid)
    for packet, where in packets:
        decoder.show(packet, None, where)
    if arguments.pcap is not None:
        _decode_capture(arguments, decoder)
    return FAILED if decoder.incomplete else 0


class _Decoder:
    """Prints what it is shown and remembers whether something was missing."""

    def __init__(self, keys: Keys, vhid: int | None) -> None:
        self._keys = keys
        self._vhid = vhid
        self.incomplete = False

    def show(self, packet: Packet, when: float | None, where: str) -> None:
        """Print a packet, and say so when it is not whole."""
        if packet.cut:
            self.miss(f"{where}: only {len(packet.payload)} of {packet.length} bytes after the IP header")
        verdict = judge(packet, self._keys)
        if self._vhid in (None, verdict.vhid):
            print(json.dumps(verdict.record(when)), flush=True)

    def miss(self, problem: str) -> None:
        """Report what cannot be read; the exit code will tell as well."""
        self.incomplete = True
        complain("decode", problem)


def parse_hex(text: str) -> bytes:
    """Return the bytes of hex text; blanks, colons, 0x and the offsets of tcpdump -x are ignored.

    Raises ConfigError.
    """
    digits = _SEPARATORS.sub("", _DUMP_OFFSET.sub("", text))
    if not digits:
        raise ConfigError("--hex", _shown(text), "is empty")
    if re.fullmatch(r"[0-9A-Fa-f]+", digits) is None:
        raise ConfigError("--hex", _shown(text), "is not hexadecimal")
    if len(digits) % 2:
        raise ConfigError("--hex", _shown(text), f"has an odd number of digits ({len(digits)})")
    return bytes.fromhex(digits)


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _from_hex(text: str) -> Packet:
    data = parse_hex(text)
    packet = dissect_bytes(data)
    if isinstance(packet, Miss):
        problem = f"({len(data)} bytes) is no frame or IP packet of protocol 112, and no CARP header"
        raise ConfigError("--hex", _shown(text), problem)
    return packet


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open a capture, or standard input for ``-``. Raises ConfigError."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below; only the opening may fail this way
    except OSError as error:
        raise ConfigError("--pcap", path, f"cannot be read: {error.strerror}") from None
    with file:
        yield file


def _decode_capture(arguments: argparse.Namespace, decoder: _Decoder) -> None:
    """Print all of a capture that can be read."""
    path: str = arguments.pcap
    strange: set[int] = set()
    with _opened(path) as stream:
        try:
            for captured in read_capture(stream):
                where = f"--pcap: {path!r}: record {captured.number}"
                packet = dissect(captured.linktype, captured.data)
                if isinstance(packet, Packet):
                    decoder.show(packet, captured.time, where)
                elif captured.linktype not in LINK_TYPES and captured.linktype not in strange:
                    strange.add(captured.linktype)
                    decoder.miss(f"{where} has link type {captured.linktype}, not Ethernet, cooked or raw IP")
                elif packet is Miss.CUT and captured.original > len(captured.data):
                    decoder.miss(f"{where}: only {len(captured.data)} of {captured.original} bytes")
        except NotACaptureError as error:
            raise ConfigError("--pcap", path, str(error)) from None
        except CaptureError as error:
            decoder.miss(f"--pcap: {path!r} {error}")
        except BrokenPipeError:
            raise
        except OSError as error:
            decoder.miss(f"--pcap: {path!r} cannot be read: {error.strerror}")
