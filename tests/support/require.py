"""What a test needs from its machine: a skip at home, a failure where everything must run."""

from __future__ import annotations

import os

import pytest


def require(name: str, ok: bool, why: str) -> None:
    """Skip the running test unless ``ok``; fail it under ``REQUIRE_ALL=1``.

    ``name`` is what is needed (a program, a privilege), ``why`` says how to get it or what is wrong.
    """
    if ok:
        return
    message = f"needs {name}: {why}"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
