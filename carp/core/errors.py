"""What can be wrong: with our caller (exceptions) and with a packet (values)."""

from __future__ import annotations

import enum


class CarpError(Exception):
    """Root of every error that this package raises on purpose."""


class ConfigError(CarpError):
    """A setting is wrong.

    ``field`` is its path (``advskew``, ``addresses[1]``), ``value`` what was given, ``problem`` what is
    wrong with it in words that follow "VALUE ...".
    """

    def __init__(self, field: str, value: object, problem: str) -> None:
        """Keep the three parts apart, so that each front end can name its own field."""
        self.field = field
        self.value = value
        self.problem = problem
        super().__init__(f"{field}: {_shown(value)}{problem}")


def _shown(value: object) -> str:
    """Return a value for an error; never the content of a mapping or list, where a password may stand."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"{value!r} "
    if isinstance(value, bool | int | float):
        return f"{value} "
    return "a list " if isinstance(value, list | tuple) else "a mapping "


class ConfigErrors(CarpError):  # noqa: N818 (several errors, as in ExceptionGroup)
    """Everything that is wrong with some settings, in the order found; never empty."""

    def __init__(self, errors: list[ConfigError]) -> None:
        """Join the lines for a reader; ``errors`` keeps them apart."""
        self.errors = errors
        super().__init__("\n".join(str(error) for error in errors))


class MisuseError(CarpError):
    """Our own code broke a rule of the machine; never caused by a packet."""


class DropReason(enum.StrEnum):
    """Why a packet was not believed: one member per check, in the order of the checks."""

    SHORT = "short"
    """Fewer than 36 bytes, or no whole IP header before them."""
    VRRP = "vrrp"
    """Version 3, or version 2 without CARP's length or authlen: another protocol on 112."""
    VERSION = "version"
    """Neither CARP's version 2 nor a VRRP version."""
    TYPE = "type"
    """Not an advertisement."""
    CHECKSUM = "checksum"
    VHID = "vhid"
    """A vhid that nobody here is configured for."""
    TTL = "ttl"
    """TTL or hop limit is not 255: it crossed a router."""
    LOOP = "loop"
    """Our own advert came back."""
    HMAC = "hmac"
    """Password, address list or vhid differ from ours."""
    UNSEALED = "unsealed"
    """Authentic, but without a valid seal where `Sealed` demands one."""
    REPLAY = "replay"
    """Sealed, but not newer than what this source has already sent."""
    STALLED = "stalled"
    """It waited in our queue while we were stopped; its age is unknown."""
    INACTIVE = "inactive"
    """The vhost is not taking part (no link, no address)."""
