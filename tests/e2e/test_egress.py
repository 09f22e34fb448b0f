"""A master whose adverts do not leave must not keep the address: send before renew, no renewal on failure."""

from __future__ import annotations

import shutil

import pytest

from beside import Measured, beside, labs
from nodefix import Lab, holds, run_ip, wait_until
from nsfix import inside
from require import require

__all__ = ["labs"]

_HOOK = "table netdev t { chain c { type filter hook egress device eth0 priority 0; ip protocol 112 drop; } }"
_OUTPUT = "table ip t { chain c { type filter hook output priority 0; ip protocol 112 drop; } }"


def _drop(lab: Lab, how: str) -> None:
    node = lab.node("n1")
    import subprocess

    def run(*words: str) -> None:
        node.run_in(lambda: subprocess.run(words, check=True, capture_output=True))

    if how == "qdisc":
        run("tc", "qdisc", "add", "dev", "eth0", "clsact")
        words = "protocol ip matchall action drop" if False else "protocol ip u32 match ip protocol 112 0xff action drop"
        run("tc", "filter", "add", "dev", "eth0", "egress", *words.split())
    else:
        run("nft", _HOOK if how == "egress-hook" else _OUTPUT)
