from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carp.commands import doctor
from carp.core.errors import CarpError
from fakecarpd import FakeCarpd, answer, backup, seen, vhost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from carp.commands.finding import Target
    from carp.commands.host import Host

_ALONE = ["--listen", "0s", "-i", "lo", "-v", "42"]


def test_without_carpd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A vhost can be described; carpd is not asked then."""
    doctor.main([*_ALONE, "-a", "127.0.0.252", "--socket", str(tmp_path / "s")])
    out = capsys.readouterr().out
    assert "not asked, since --interface is given" in out
    assert "vhost to be (vhid 42, 127.0.0.252)" in out
    assert out.splitlines()[-1].startswith("failed ")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object: the findings, and how many of each verdict."""
    code = doctor.main([*_ALONE, "-a", "127.0.0.252", "-o", "json"])
    told = json.loads(capsys.readouterr().out)
    assert {"about", "check", "verdict", "text", "advice"} == set(told["findings"][0])
    assert len(told["findings"]) == sum(told[verdict] for verdict in ("ok", "warn", "fail", "skipped"))
    assert (1 if told["fail"] else 0) == code


def test_an_interface_that_is_not_there_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed check makes the exit code 1, and what to do stands below it."""
    assert 1 == doctor.main(["-i", "nosuch0", "-v", "42", "-a", "10.1.1.252", "--listen", "0s"])
    out = capsys.readouterr().out
    assert "FAIL  interface" in out
    assert "-> correct the vhost's `interface`" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-i", "lo"], "--interface, --vhid and --address describe one vhost"),
        ([*_ALONE, "-a", "10.1.1.252", "web"], "and no NAME"),
        ([*_ALONE, "-a", "10.1.1"], "--address (-a): '10.1.1' is not an IP address"),
        (["--listen", "soon"], "--listen: 'soon' is not a time"),
    ],
)
def test_wrong_words(words: list[str], text: str) -> None:
    """Each is one line that names the option."""
    with pytest.raises(CarpError) as raised:
        doctor.main(words)
    assert text in str(raised.value)


def test_nobody_to_ask(tmp_path: Path) -> None:
    """Without carpd and without a description both ways on are told."""
    with pytest.raises(CarpError) as raised:
        doctor.main(["--socket", str(tmp_path / "s")])
    first, second = str(raised.value).splitlines()
    assert first.startswith("no carpd answers at ")
    assert "or without it: carp doctor -i IF -v VHID -a IP" == second


def test_a_vhost_without_an_interface_is_looked_for_by_its_subnet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where carpd could not place a vhost, the interface of its subnet is checked, and the reason told."""
    lost = vhost(state="INIT", interface="", addresses=["127.0.0.252/32"], reason="interface eth9 is down")
    with FakeCarpd(tmp_path / "s", lambda _: answer(lost)) as fake:
        assert 1 == doctor.main(["--socket", fake.path, "--listen", "0s"])
    out = capsys.readouterr().out
    assert "\nlo\n" in out
    assert "web (vhid 42, 127.0.0.252, INIT)" in out
    assert "the vhost takes no part: interface eth9 is down" in out


@pytest.mark.parametrize(
    ("vhosts", "words", "seconds"),
    [
        ([vhost()], [], 4.0),
        ([vhost(), vhost("slow", advbase=10)], [], 11.0),
        ([backup(deadTime=60.0, master=seen(advbase=20, lastHeard=15.0))], [], 21.0),
        ([vhost("slow", advbase=29), vhost("too-slow", advbase=30)], [], 30.0),
        ([vhost(advbase=255)], [], 4.0),
        ([vhost(advbase=10)], ["--listen", "2s"], 2.0),
    ],
)
def test_how_long_it_listens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vhosts: list[dict[str, Any]],
    words: list[str],
    seconds: float,
) -> None:
    """Until the slowest master must have been heard, but not for ever; as told where that is given."""
    asked = []

    def listen(targets: Sequence[Target], _host: Host, listen_for: float) -> str:
        asked.append((len(targets), listen_for))
        return "no ears"

    monkeypatch.setattr(doctor, "_listen", listen)
    with FakeCarpd(tmp_path / "s", lambda _: answer(*vhosts)) as fake:
        doctor.main(["--socket", fake.path, *words])
    assert [(len(vhosts), seconds)] == asked


def test_one_that_can_be_placed_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any interface the vhost's own checks say so."""
    lost = vhost(state="INIT", interface="", addresses=["203.0.113.9/32"], reason="no interface matches")
    with FakeCarpd(tmp_path / "s", lambda _: answer(lost)) as fake:
        assert 1 == doctor.main(["--socket", fake.path, "--listen", "0s"])
    assert "the vhost takes no part: no interface matches" in capsys.readouterr().out
