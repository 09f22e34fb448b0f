"""What follows from settings."""

from __future__ import annotations

import pytest

from carp.core import config as c
from pair import config


@pytest.mark.parametrize(
    ("interface", "text"),
    [
        (c.Interface(name="eth0"), "eth0"),
        (c.Interface(subnet="auto"), "subnet auto"),
        (c.Interface(pattern="en*"), "pattern en*"),
    ],
)
def test_an_interface_selector_reads_as_people_write_it(interface: c.Interface, text: str) -> None:
    """The selector in a message is the one in the file."""
    assert text == str(interface)


@pytest.mark.parametrize(
    ("addresses", "families"),
    [
        (["10.1.1.252"], (4,)),
        (["2001:db8::1"], (6,)),
        (["2001:db8::1", "10.1.1.252", "10.1.1.253"], (4, 6)),
    ],
)
def test_families_are_those_of_the_addresses(addresses: list[str], families: tuple[int, ...]) -> None:
    """Adverts go out in each family that an address has."""
    assert families == config(addresses=addresses).families


@pytest.mark.parametrize(
    ("fields", "fenced"),
    [
        ({}, True),
        ({"fencing": "Off"}, False),
        ({"manageAddresses": False}, False),
        ({"manageAddresses": False, "fencing": "Off"}, False),
    ],
)
def test_the_fence_needs_addresses_of_ours(fields: dict[str, object], fenced: bool) -> None:
    """With the addresses left to scripts, or fencing Off, the kernel takes nothing away."""
    assert fenced == config(**fields).fenced


def test_credentials_authenticate_addresses_without_prefix() -> None:
    """The prefix length is no part of what is hashed."""
    with_prefix, without = (config(addresses=[text]).sign.context(42) for text in ("10.1.1.2/24", "10.1.1.2"))
    assert with_prefix.digest(bytes(8)) == without.digest(bytes(8))
