"""CARP as a scapy layer: right by default."""

from __future__ import annotations

import subprocess
import sys

import pytest
from scapy.layers.inet import IP

from carp.core.wire import Advert, unpack
from carp.inspect.layer import CARP
from crafted import Vector, vectors


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"].split()[0])
def test_the_vectors_are_built_and_read_back(vector: Vector) -> None:
    """The checksum is filled in."""
    names = ("vhid", "advbase", "advskew")
    built = CARP(
        **{name: vector[name] for name in names},
        demotion=vector["demote"],
        counter=int(vector["counter"], 16),
        digest=bytes.fromhex(vector["hmac_sha1"]),
    )
    header = bytes.fromhex(vector["header"])
    assert header == bytes(built)
    read = CARP(header)
    assert int(vector["checksum"], 16) == read.checksum
    assert {name: vector[name] for name in names} == {name: getattr(read, name) for name in names}


def test_the_defaults_are_an_advert_that_everybody_accepts() -> None:
    """Version, type, authlen and checksum; only the digest is the caller's."""
    assert Advert(1, 1, 0, 0, 0, bytes(20)) == unpack(bytes(CARP()))


def test_a_given_checksum_stays() -> None:
    """For tests of receivers; bytes after the header are not summed."""
    assert b"\x12\x34" == bytes(CARP(checksum=0x1234))[6:8]
    assert bytes(CARP()) + b"tail" == bytes(CARP() / b"tail")


def test_protocol_112_is_left_alone() -> None:
    """Importing the layer does not change what scapy makes of other packets."""
    code = (
        "from scapy.layers.inet import IP; before = list(IP.payload_guess);"
        "import carp.inspect.layer; print(before == IP.payload_guess)"
    )
    assert (
        "True\n"
        == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert 112 == (IP(proto=112) / CARP()).proto
