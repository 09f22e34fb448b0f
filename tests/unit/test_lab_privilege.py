"""What the lab says about missing privileges."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from carp.lab import kernel, privilege
from carp.lab.errors import LabError


def test_missing_capabilities_are_named() -> None:
    """Each needed capability that is not effective is named."""
    assert [] == privilege.missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n")
    assert ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"] == privilege.missing_capabilities(f"CapEff:\t{1 << 13:016x}\n")
    assert 3 == len(privilege.missing_capabilities(""))


def test_refusal_is_one_line_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither way is open the message names the capabilities, the reason and what to do."""

    def refuse(flags: int) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def nothing(status: str) -> list[str]:
        return ["CAP_SYS_ADMIN"]

    monkeypatch.setattr(kernel, "unshare", refuse)
    monkeypatch.setattr(privilege, "missing_capabilities", nothing)
    with pytest.raises(LabError) as caught:
        privilege.enter()
    text = str(caught.value)
    assert "CAP_SYS_ADMIN" in text
    assert "Operation not permitted" in text
    assert "root" in text
    assert "\n" not in text


def test_namespace_without_capabilities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user namespace that came without capabilities is reported as such."""

    def fake(*_: Any) -> None:
        return None

    monkeypatch.setattr(kernel, "unshare", fake)
    monkeypatch.setattr(privilege, "_map_to_root", fake)
    monkeypatch.setattr(privilege, "missing_capabilities", lambda _: ["CAP_NET_ADMIN"])
    with pytest.raises(LabError, match="has no capabilities"):
        privilege.enter()


def test_nothing_to_do_with_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the capabilities there is no user namespace."""
    monkeypatch.setattr(privilege, "missing_capabilities", lambda _: [])
    assert privilege.enter() is False
