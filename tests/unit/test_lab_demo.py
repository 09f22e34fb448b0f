"""The demo's command line and screen."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from carp.lab import demo, privilege
from carp.lab.errors import LabError
from carp.lab.timeline import Event

if TYPE_CHECKING:
    from pathlib import Path


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """The help says what is shown, what is needed, the exit codes and examples."""
    with pytest.raises(SystemExit) as caught:
        demo.main(["--help"])
    text = capsys.readouterr().out
    assert 0 == caught.value.code
    for part in ("10.99.0.252", "--plot", "exit codes", "user namespaces", "jq .rows"):
        assert part in text


def test_no_privilege_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the lab cannot be made the demo says why in one line and ends with 2."""

    def refuse() -> NoReturn:
        raise LabError("no way in")

    monkeypatch.setattr(privilege, "enter", refuse)
    assert 2 == demo.main([])
    assert "carp demo: no way in\n" == capsys.readouterr().err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends it with 130 and no traceback."""

    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(privilege, "enter", interrupt)
    assert 130 == demo.main([])
    assert "" == capsys.readouterr().err


def test_plain_lines_elsewhere() -> None:
    """Without a terminal each event is one line, once, and no escape sequence is written."""
    stream = io.StringIO()
    screen = demo.Screen(stream, quiet=False)
    story: Any = SimpleNamespace(events=[Event(1.25, "killed")])
    screen.observe(story, None)  # type: ignore[arg-type]
    screen.observe(story, None)  # type: ignore[arg-type]
    screen.close(["end"])
    assert "   1.2 s  killed\n\nend\n" == stream.getvalue()


def test_quiet_screen() -> None:
    """With --json nothing is drawn."""
    stream = io.StringIO()
    screen = demo.Screen(stream, quiet=True)
    screen.close(["end"])
    assert "" == stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_live_screen_redraws_in_place() -> None:
    """On a terminal the second picture goes over the first."""
    stream = Terminal()
    screen = demo.Screen(stream, quiet=False)
    screen.close(["one", "two"])
    screen.close(["three"])
    assert "one\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[2Fthree\x1b[K\n\x1b[J" == stream.getvalue()


def test_folder_without_members(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder with nothing to show is one line and exit code 2, before any namespace is made."""
    monkeypatch.setattr(privilege, "enter", lambda: None)
    assert 2 == demo.main(["--members", str(tmp_path)])
    expected = f"carp demo: {tmp_path}: has 0 NODE/carp.yaml; the demo takes 2 to 5\n"
    assert expected == capsys.readouterr().err
