"""What the commands that run once share (carp_operator.controller.once)."""

from __future__ import annotations

import pytest

from carp.core.errors import CarpError, ConfigError
from carp_operator.controller import once


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("timeout", "soon", "is no duration"), 2, "carp-x: --timeout: 'soon' is no duration\n"),
        (CarpError("refused"), 1, "carp-x: refused\n"),
    ],
)
def test_errors_are_one_line(
    error: CarpError, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong use names its option; both have their exit code."""

    def fail() -> int:
        raise error

    assert (code, said) == (once.run("carp-x", fail), capsys.readouterr().err)


def test_the_exit_code_of_the_work() -> None:
    """Is passed on."""
    assert 7 == once.run("carp-x", lambda: 7)


def test_durations() -> None:
    """As everywhere else; anything else is refused by its option."""
    assert 90.0 == once.patience("1m30s")
    with pytest.raises(ConfigError, match="timeout"):
        once.patience("90")
