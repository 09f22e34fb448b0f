from __future__ import annotations

import pytest

from carp import converters
from carp.commands import arguments
from carp.core.errors import CarpError, ConfigError
from fakecarpd import vhost


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (-0.1, "0.0s"),
        (0.34, "0.3s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (192, "3m12s"),
        (3599.7, "1h00m"),
        (7500, "2h05m"),
        (86400 * 3 + 4 * 3600, "3d04h"),
    ],
)
def test_ages_are_short(span: float, text: str) -> None:
    """An age has two units at most, tenths only below ten seconds, and never 60 of a unit."""
    assert text == arguments.age(span)


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("5s", 5), ("0.5s", 0.5), ("200ms", 0.2), ("0s", 0)])
def test_times(text: str, value: float) -> None:
    """A time is a number of seconds, with s or ms after it if wanted."""
    assert value == arguments.seconds("--wait")(text)


@pytest.mark.parametrize("text", ["", "s", "-1s", "5m", "nan", "inf", "1e9", "soon"])
def test_wrong_times_name_option_and_value(text: str) -> None:
    """Anything else is one line with the option and the value."""
    with pytest.raises(ConfigError) as raised:
        arguments.seconds("--wait")(text)
    assert str(raised.value).startswith(f"--wait: {text!r} is not a time")


@pytest.mark.parametrize("text", ["", "0", "255", "-1", "1.5", "x", "٣"])
def test_wrong_numbers_name_option_and_value(text: str) -> None:
    """A number out of its range is one line with the option and the value."""
    with pytest.raises(ConfigError) as raised:
        converters.number("AMOUNT", 1, 254)(text)
    assert f"AMOUNT: {text!r} is not a number from 1 to 254" == str(raised.value)


def test_wrong_words_are_an_error_of_one_line() -> None:
    """An unknown option raises, with where to read more; no usage is printed."""
    parser = arguments.make_parser("status", "", "")
    with pytest.raises(CarpError) as raised:
        parser.parse_args(["--bogus"])
    assert "unrecognized arguments: --bogus; see carp status --help" == str(raised.value)


def test_vhosts_are_chosen_by_name() -> None:
    """Names choose, none choose all, in the order of names; an unknown one is told with those there are."""
    here = [vhost("b"), vhost("a")]
    assert ["a", "b"] == [each["name"] for each in arguments.chosen(here, [])]
    assert ["b"] == [each["name"] for each in arguments.chosen(here, ["b", "b"])]
    with pytest.raises(CarpError, match="NAME: 'c' is no vhost here; there are a, b"):
        arguments.chosen(here, ["c"])
    with pytest.raises(CarpError, match="there are none"):
        arguments.chosen([], ["c"])


def test_paragraphs_keep_long_words_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paragraph fits the terminal, and nothing that somebody may copy is cut."""
    monkeypatch.setenv("COLUMNS", "60")
    path = "/" + "x" * 70
    lines = arguments.wrapped(f"{'word ' * 30}{path}", indent="  ").splitlines()
    assert f"  {path}" == lines[-1]
    assert all(len(line) <= 60 for line in lines[:-1])
