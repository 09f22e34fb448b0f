"""What a check of `carp doctor` looks at, and what it says."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp.core.timing import interval

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

    from carp.core.auth import Address

_MARGIN: Final = 1.0
"""s that an advert may come late."""


class Verdict(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result: ``about`` is the host, an interface or a vhost; ``advice`` says what to do."""

    about: str
    check: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A vhost to look at; ``status`` is carpd's word about it, None where carpd is not asked."""

    name: str
    vhid: int
    interface: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    status: dict[str, Any] | None = None

    @property
    def ips(self) -> tuple[Address, ...]:
        """The addresses without lengths."""
        return tuple(each.ip for each in self.addresses)

    @property
    def title(self) -> str:
        """The vhost in a few words."""
        about = f"vhid {self.vhid}, {', '.join(map(str, self.ips))}"
        return f"{self.name} ({about}, {self.state})" if self.status else f"vhost to be ({about})"

    @property
    def families(self) -> tuple[int, ...]:
        """Each of 4 and 6 that an address has."""
        return tuple(sorted({each.version for each in self.addresses}))

    @property
    def state(self) -> str:
        """MASTER, BACKUP, INIT, or empty where carpd is not asked."""
        return "" if self.status is None else str(self.status["state"])

    @property
    def believed(self) -> str | None:
        """The source of the master that carpd heard within its dead time."""
        seen = None if self.status is None else self.status["master"]
        if self.status is None or seen is None or seen["lastHeard"] > self.status["deadTime"]:
            return None
        return str(seen["source"])

    @property
    def sealed(self) -> bool:
        """Whether that master is one of our own members."""
        return self.believed is not None and self.status is not None and bool(self.status["master"]["sealed"])

    @property
    def period(self) -> float:
        """The seconds between two adverts of the master, as far as carpd knows; 0 where it is not asked."""
        if self.status is None:
            return 0.0
        sender = self.status if self.believed is None else self.status["master"]
        return interval(sender["advbase"], sender["advskew"])

    @property
    def patience(self) -> float:
        """The seconds of listening after which an advert must have been heard."""
        return self.period + _MARGIN
