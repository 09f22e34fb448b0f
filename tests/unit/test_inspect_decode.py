"""`carp decode` from its arguments to its output."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap, wrpcapng

from carp.core.errors import ConfigError
from carp.inspect import decode_main
from carp.inspect.decode import parse_hex
from crafted import OPENBSD_HEADER, UCARP_FRAME, UCARP_HEADER, VRRP3, frame, v4, vectors

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[..., tuple[int, list[dict[str, Any]], str]]
LOVE = ("--pass", "love", "--address", "10.99.0.252")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; give its code, its records and its errors."""

    def call(*argv: str) -> tuple[int, list[dict[str, Any]], str]:
        code = decode_main(list(argv))
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


def test_hex_of_a_frame_a_packet_and_a_header(run: Run) -> None:
    """One record each, in order."""
    forms = (UCARP_FRAME, UCARP_FRAME[14:], UCARP_HEADER)
    arguments = [argument for data in forms for argument in ("--hex", data.hex())]
    code, records, err = run(*arguments, *LOVE)
    assert (0, "") == (code, err)
    assert [("10.99.0.1", 42, "ok", "plain")] * 2 + [(None, 42, "ok", "plain")] == [
        (r["source"], r["vhid"], r["hmac"], r["form"]) for r in records
    ]


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"].split()[0])
def test_each_vector_on_the_command_line(run: Run, vector: dict[str, Any], tmp_path: Path) -> None:
    """Except the 20-byte key, which no command line can give."""
    if vector["password"].startswith("hex:"):
        assert 2 == run("--hex", vector["header"], "--pass", vector["password"])[0]
        return
    (tmp_path / "p").write_text(vector["password"] + "\n", encoding="utf-8")
    addresses = [argument for address in vector["addresses"] for argument in ("--address", address)]
    code, records, _ = run("--hex", vector["header"], "--passfile", str(tmp_path / "p"), *addresses)
    expected = "bad" if vector["options"] else "ok"
    assert (0, [(vector["counter"], expected)]) == (code, [(r["counter"], r["hmac"]) for r in records])


@pytest.mark.parametrize(
    "text",
    [
        "212a64070001d21b",
        "0x212a64070001d21b",
        "0x21 0x2a 0x64 0x07 0x00 0x01 0xd2 0x1b",
        "21:2A:64:07:00:01:D2:1B",
        "  212a 6407\n0001\td21b\n",
        "21-2a-64-07-00-01-d2-1b",
        "\t0x0000:  212a 6407\n\t0x0010:  0001 d21b\n",
    ],
)
def test_ways_to_write_hex(text: str) -> None:
    """Blanks, colons, prefixes, and what tcpdump -x prints."""
    assert OPENBSD_HEADER[:8] == parse_hex(text)


@given(st.binary(min_size=1, max_size=60))
def test_hex_round_trip(data: bytes) -> None:
    """Any bytes, plain or with colons."""
    assert data == parse_hex(data.hex()) == parse_hex(data.hex(":"))


@given(st.text(max_size=40))
def test_any_text_is_bytes_or_a_one_line_error(text: str) -> None:
    """Nothing else is raised; the value is quoted, so it cannot break the line."""
    with suppress(ConfigError):
        assert parse_hex(text)
        return
    with pytest.raises(ConfigError) as caught:
        parse_hex(text)
    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to decode: give --pcap FILE or --hex TEXT"),
        (["--hex", "zz"], "--hex: 'zz' is not hexadecimal"),
        (["--hex", "212"], "--hex: '212' has an odd number of digits (3)"),
        (["--hex", " : "], "--hex: ' : ' is empty"),
        (
            ["--hex", "00" * 50],
            f"--hex: '{'00' * 18}0...' (50 bytes) is no frame or IP packet of protocol 112,",
        ),
        (["--pcap", "/nonexistent"], "--pcap: '/nonexistent' cannot be read: No such file or directory"),
        (["--pcap", "/"], "--pcap: '/' cannot be read: Is a directory"),
        (["--pcap", __file__], f"--pcap: {__file__!r} is neither pcap nor pcapng"),
        (["--hex", "00", "--vhid", "x"], "--vhid: 'x' is not a number from 1 to 255"),
        (["--frob"], "unrecognized arguments: --frob"),
    ],
)
def test_what_the_user_got_wrong(run: Run, argv: list[str], message: str) -> None:
    """One line that names option and value, exit code 2, no output."""
    code, records, err = run(*argv)
    assert (2, [], 1) == (code, records, err.count("\n"))
    assert err.startswith(f"carp decode: {message}")


def test_a_wrong_text_among_good_ones_prints_nothing(run: Run) -> None:
    """The arguments are checked before the first record."""
    assert (2, []) == run("--hex", UCARP_FRAME.hex(), "--hex", "zz")[:2]


def test_hex_that_ends_too_early(run: Run) -> None:
    """What is readable is printed, and the missing part told."""
    code, records, err = run("--hex", UCARP_FRAME[:60].hex())
    assert (1, "10.99.0.1", None) == (code, records[0]["source"], records[0]["vhid"])
    assert "only 26 of 36 bytes after the IP header" in err


@pytest.mark.parametrize("write", [wrpcap, wrpcapng])
def test_captures(run: Run, tmp_path: Path, write: Callable[..., None]) -> None:
    """CARP and VRRP are printed with their times, other traffic is not; --vhid chooses."""
    path = str(tmp_path / "capture")
    packets = [Ether(UCARP_FRAME), Ether(frame(v4(b"", proto=17))), Ether(frame(v4(VRRP3)))]
    for number, packet in enumerate(packets):
        packet.time = 1000.25 + number
    write(path, packets)
    code, records, err = run("--pcap", path, *LOVE)
    assert (0, "") == (code, err)
    assert [(1000.25, None), (1002.25, "vrrp")] == [(r["time"], r["drop"]) for r in records]
    assert [42] == [r["vhid"] for r in run("--pcap", path, "--vhid", "42")[1]]
    assert [11] == [r["vrid"] for r in run("--pcap", path, "--vhid", "11")[1]]
    assert (0, [], "") == run("--pcap", path, "--vhid", "1")


def test_a_truncated_capture(run: Run, tmp_path: Path) -> None:
    """The whole records are printed, then one line on standard error and exit code 1."""
    path = tmp_path / "cut.pcap"
    wrpcap(str(path), [Ether(UCARP_FRAME)] * 3)
    path.write_bytes(path.read_bytes()[:-1])
    code, records, err = run("--pcap", str(path), *LOVE)
    assert (1, ["ok", "ok"]) == (code, [r["hmac"] for r in records])
    assert f"carp decode: --pcap: '{path}' ends in the middle of record 3\n" == err


def test_packets_cut_by_the_snap_length(run: Run, tmp_path: Path) -> None:
    """Each is named; one that shows its IP header has a record."""
    path = tmp_path / "snap.pcap"
    wrpcap(str(path), [Ether(UCARP_FRAME)])
    whole = path.read_bytes()
    for size, printed, told in ((60, 1, "26 of 36 bytes after the IP header"), (20, 0, "20 of 70 bytes")):
        path.write_bytes(whole[:32] + size.to_bytes(4, "little") + whole[36 : 40 + size])
        code, records, err = run("--pcap", str(path))
        assert (1, printed) == (code, len(records))
        assert f"carp decode: --pcap: '{path}': record 1: only {told}\n" == err


def test_an_unknown_link_type_is_named_once(run: Run, tmp_path: Path) -> None:
    """Its packets cannot be read: exit code 1."""
    path = str(tmp_path / "wifi.pcap")
    wrpcap(path, [Raw(b"x" * 60)] * 3, linktype=105)
    code, records, err = run("--pcap", path)
    assert (1, [], 1) == (code, records, err.count("\n"))
    assert "record 1 has link type 105, not Ethernet, cooked or raw IP" in err


def test_standard_input(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads it."""
    path = tmp_path / "capture.pcap"
    wrpcap(str(path), [Ether(UCARP_FRAME)])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    code, records, _ = run("--pcap", "-", *LOVE)
    assert (0, ["ok"]) == (code, [r["hmac"] for r in records])


COMMAND = [
    sys.executable,
    "-c",
    "import sys; from carp.inspect import decode_main as m; sys.exit(m(sys.argv[1:]))",
]


def test_a_pipe_shows_each_packet_at_once(tmp_path: Path) -> None:
    """As behind a live tcpdump: the record is there while the writer still holds the pipe open."""
    path = tmp_path / "capture.pcap"
    wrpcap(str(path), [Ether(UCARP_FRAME)])
    with subprocess.Popen(
        [*COMMAND, "--pcap", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(path.read_bytes())
        process.stdin.flush()
        assert 42 == json.loads(process.stdout.readline())["vhid"]
        process.stdin.close()
        assert 0 == process.wait(10)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """As with head: no traceback."""
    path = tmp_path / "capture.pcap"
    wrpcap(str(path), [Ether(UCARP_FRAME)] * 20)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "--pcap", str(path)], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (0, b"") == (done.returncode, done.stderr)


@given(st.binary(max_size=300))
def test_a_capture_of_noise_never_raises(noise: bytes) -> None:
    """Behind the header of a real one."""
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(head + noise)))
        assert decode_main(["--pcap", "-", *LOVE]) in (0, 1)


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with 0."""
    with pytest.raises(SystemExit) as caught:
        decode_main(["--help"])
    assert not caught.value.code
    assert 4 == capsys.readouterr().out.count("carp decode -")


def test_the_commands_import_nothing_heavy() -> None:
    """No scapy, no asyncio: they start at once, and write nothing to the user's home."""
    code = (
        "import sys, carp.inspect; print([m for m in ('scapy', 'asyncio', 'pyroute2') if m in sys.modules])"
    )
    assert (
        "[]\n"
        == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
