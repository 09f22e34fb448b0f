"""Options, errors and exit codes that `carp decode` and `carp watch` share."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from carp.converters import number
from carp.core.errors import CarpError, ConfigError
from carp.inspect.arguments import UsageError, keys_from, make_parser, parse_address, run
from carp.inspect.verdict import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def keys(*argv: str) -> Keys:
    """Parse and return the keys."""
    return keys_from(make_parser("test", "", "").parse_args(argv), "test")


def test_without_options_nothing_is_known() -> None:
    """Neither a key nor an address."""
    assert Keys(None, ()) == keys()


def test_password_and_addresses() -> None:
    """Short and long forms; prefix lengths and scopes are tolerated."""
    expected = (ip_address("10.1.1.252"), ip_address("2001:db8::1"))
    assert Keys(b"love", expected) == keys("-p", "love", "-a", "10.1.1.252/24", "--address", "2001:db8::1")
    assert Keys(b"", ()) == keys("--pass", "")
    assert Keys("größe".encode(), ()) == keys("--pass", "größe")


def test_a_password_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read as the daemon reads it; what is odd about it is said."""
    path = tmp_path / "pass"
    path.write_bytes(b"love\nsecond line\n")
    path.chmod(0o600)
    assert b"love" == keys("--passfile", str(path)).key
    assert "" == capsys.readouterr().err
    path.chmod(0o644)
    assert b"love" == keys("-o", str(path)).key
    assert capsys.readouterr().err.startswith(f"carp test: --passfile: {path} can be read by others")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has an empty first line"),
        (b"\nlove\n", "has an empty first line"),
        (b"x" * 20, "gives a password of 20 bytes, more than 19"),
        (b"x" * 9999, "gives a password of 512 bytes, more than 19"),
    ],
)
def test_a_useless_password_file_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    """The error has the option, the file and the problem; never the password."""
    path = tmp_path / "pass"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        keys("-o", str(path))
    assert str(caught.value).startswith(f"--passfile: '{path}' {problem}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--passfile", "/nonexistent"],
            "--passfile: '/nonexistent' cannot be read: No such file or directory",
        ),
        (["--passfile", "/"], "--passfile: '/' cannot be read: Is a directory"),
        (["--passfile", "x", "--pass", "y"], "--passfile: 'x' cannot be combined with --pass"),
        (["--pass", "x" * 20], "--pass: gives a password of 20 bytes, more than 19"),
        (["--pass", "ö" * 10], "--pass: gives a password of 20 bytes, more than 19"),
        (["--address", "10.1"], "--address: '10.1' is not an IP address"),
        (["--address", ""], "--address: '' is not an IP address"),
        (["--vhid", "0"], "--vhid: '0' is not a number from 1 to 255"),
        (["--vhid", "256"], "--vhid: '256' is not a number from 1 to 255"),
        (["--vhid", "7abc"], "--vhid: '7abc' is not a number from 1 to 255"),
        (["--vhid"], "argument -v/--vhid: expected one argument"),
        (["--vh", "7"], "unrecognized arguments: --vh 7"),
        (["x"], "unrecognized arguments: x"),
    ],
)
def test_each_wrong_option_is_one_line(argv: list[str], message: str) -> None:
    """Option and value are in it."""
    with pytest.raises(CarpError) as caught:
        keys(*argv)
    assert message == str(caught.value)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "²", "9" * 5000, "0x10"])
def test_numbers_are_plain_decimal(text: str) -> None:
    """Nothing else is guessed at."""
    with pytest.raises(ConfigError):
        number("--count", 1, 99)(text)
    assert 42 == number("--count", 1, 99)("42")


def test_a_scoped_address_is_an_address() -> None:
    """As copied from `ip address`; the scope is not hashed."""
    assert ip_address("fe80::1") == parse_address("fe80::1%eth0")


def _raising(error: BaseException) -> Callable[[Sequence[str]], int]:
    def work(argv: Sequence[str]) -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("--vhid", "0", "is wrong"), 2, "carp test: --vhid: '0' is wrong\n"),
        (UsageError("no"), 2, "carp test: no\n"),
        (CarpError("gone"), 1, "carp test: gone\n"),
        (KeyboardInterrupt(), 0, ""),
    ],
)
def test_exit_codes(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """2 for what the user gave, 1 for what went wrong later, 0 for Ctrl-C; one line on standard error."""
    assert code == run("test", _raising(error), [])
    assert ("", said) == tuple(capsys.readouterr())
    assert 7 == run("test", lambda argv: 7, [])
