"""Tests that mostly wait, run side by side: `from beside import beside, labs`.

A test's body gets a LAN of its own. When such a test runs, its body and those of all such tests that follow
it directly start, a few at a time; each test then only waits for its own.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest

from carp.lab.errors import LabError
from lanfix import need_lan
from nodefix import Lab, LateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

Measured = dict[str, Any]
Body = Any
"""A function of a `Lab` and the test's parameters that may return what it measured."""

_AGAIN = 2
_AT_A_TIME = int(os.environ.get("LABS", "8"))


class Labs:
    """The bodies of this session's tests, running or done."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = items
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="lab")
        self._results: dict[str, Future[Measured]] = {}

    def result(self, item: pytest.Item) -> Measured:
        """Wait for one body; raises what it raised.

        What came too late beside other labs is tried again alone, twice at most: seven of them on two
        processors are noise of our own. What was wrong stays wrong.
        """
        if item.nodeid not in self._results:
            self._begin(item)
        result = self._results[item.nodeid]
        for _ in range(_AGAIN):
            try:
                return result.result()
            except (LateError, LabError) as error:
                print(f"{item.name}: once more, alone: {error}")
            wait(self._results.values())
            result = self._submit(item)
        return result.result()

    def _begin(self, first: pytest.Item) -> None:
        """Start the bodies from this one up to the next test that has none: that one wants no noise."""
        for item in self._items[self._items.index(first) :]:
            body = getattr(getattr(item, "function", None), "body", None)
            if body is None:
                return
            self._results[item.nodeid] = self._submit(item)

    def _submit(self, item: pytest.Item) -> Future[Measured]:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        return self._pool.submit(_in_a_lab, item.function.body, parameters)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Begin nothing more and wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)


_RUNNING = pytest.StashKey[Labs]()


@pytest.fixture(scope="session")
def labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    """Run bodies; the same for all the modules that import this."""
    need_lan()
    stash = request.config.stash
    if _RUNNING not in stash:
        stash[_RUNNING] = Labs(request.session.items)
    yield stash[_RUNNING]
    stash[_RUNNING].close()


def beside(body: Body) -> Callable[..., None]:
    """Make a test of a body whose first parameter is a `Lab`."""

    @functools.wraps(body)
    def test(labs: Labs, request: pytest.FixtureRequest, **_parameters: Any) -> None:
        for name, value in labs.result(request.node).items():
            request.node.user_properties.append((name, value))
            print(f"{request.node.name}: {name} = {value}")

    shown = list(inspect.signature(body).parameters.values())[1:]
    kind = inspect.Parameter.KEYWORD_ONLY
    asked = [inspect.Parameter(name, kind) for name in ("labs", "request")]
    test.__signature__ = inspect.Signature([*asked, *(each.replace(kind=kind) for each in shown)])  # type: ignore[attr-defined]
    del test.__wrapped__
    test.body = body  # type: ignore[attr-defined]
    return test


def _in_a_lab(body: Body, parameters: dict[str, Any]) -> Measured:
    start = time.monotonic()
    with Lab() as lab:
        measured: Measured = body(lab, **parameters) or {}
    return {**measured, "took_s": round(time.monotonic() - start, 1)}
