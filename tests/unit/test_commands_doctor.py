from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carp.commands import doctor
from carp.core.errors import CarpError
from fakecarpd import FakeCarpd, answer, vhost

if TYPE_CHECKING:
    from pathlib import Path

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


def test_one_that_can_be_placed_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any interface the vhost's own checks say so."""
    lost = vhost(state="INIT", interface="", addresses=["203.0.113.9/32"], reason="no interface matches")
    with FakeCarpd(tmp_path / "s", lambda _: answer(lost)) as fake:
        assert 1 == doctor.main(["--socket", fake.path, "--listen", "0s"])
    assert "the vhost takes no part: no interface matches" in capsys.readouterr().out
