from __future__ import annotations

import time

import pytest

from carp.core.errors import ConfigError
from carp_operator.kube.errors import Forbidden, Transient, Unauthorized, Unreachable
from carp_operator.kubectl import waiting
from carp_operator.kubectl.usage import UsageError, make_parser


def parsed(*words: str) -> float:
    """Return for how long these words say to wait."""
    parser = make_parser("try", "", "")
    waiting.add_options(parser, "for it")
    parser.add_argument("name")
    return waiting.seconds(parser.parse_args(waiting.normal([*words, "x"])))


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ([], 30.0),
        (["--wait"], 30.0),
        (["--wait=false"], 0.0),
        (["--timeout", "500ms"], 0.5),
        (["--timeout=2m", "--wait=true"], 120.0),
    ],
)
def test_how_long(words: list[str], seconds: float) -> None:
    """As with kubectl: --wait stands alone or has a value behind =."""
    assert seconds == parsed(*words)


@pytest.mark.parametrize("time", ["0s", "soon", "2h"])
def test_wrong_times(time: str) -> None:
    """What is no time is refused."""
    with pytest.raises(ConfigError, match="timeout"):
        parsed("--timeout", time)


def test_wrong_choice() -> None:
    """--wait is true or false."""
    with pytest.raises(UsageError, match="invalid choice: 'maybe'"):
        parsed("--wait=maybe")


def test_until(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks once at least, until it holds or the time is over."""
    monkeypatch.setattr(waiting, "LOOK", 0.0)
    answers = iter([False, False, True])
    assert waiting.until(lambda: next(answers), 5)
    assert not waiting.until(lambda: False, 0)


def test_a_lost_connection_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for may have moved the API server's address: it looks again."""
    monkeypatch.setattr(waiting, "LOOK", 0.0)
    answers = iter([Unreachable("get x", "reset"), Unauthorized("get x", "not yet"), False, True])

    def look() -> bool:
        answer = next(answers)
        if isinstance(answer, Transient):
            raise answer
        return answer

    assert waiting.until(look, 5)


@pytest.mark.parametrize(("kind", "limit"), [(Unreachable, 0.0), (Unreachable, 0.01), (Forbidden, 5.0)])
def test_an_error_that_stays(
    kind: type[Unreachable | Forbidden], limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still fails at the end is told; what does not pass by itself is told at once."""
    monkeypatch.setattr(waiting, "LOOK", 0.001)

    def look() -> bool:
        raise kind("get x", "no")

    began = time.monotonic()
    with pytest.raises(kind, match="no"):
        waiting.until(look, limit)
    assert time.monotonic() - began < 5.0
