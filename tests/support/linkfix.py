"""Two namespaces with a cable between them: `from linkfix import cable`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from nsfix import inside, ip, namespace, require_namespaces, wait_up

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

NAME = "c0"


class End(NamedTuple):
    """One end: its namespace, and the interface's index there."""

    namespace: str
    ifindex: int

    def enter(self) -> contextlib.AbstractContextManager[None]:
        """Have this thread make its sockets here."""
        return inside(self.namespace)


def _end(name: str, number: int) -> End:
    ip("-n", name, "addr", "add", f"10.1.1.{number}/24", "dev", NAME)
    ip("-n", name, "addr", "add", f"fd00::{number}/64", "dev", NAME, "nodad")
    ip("-n", name, "link", "set", NAME, "up")
    return End(name, int(ip("-n", name, "-o", "link", "show", NAME).partition(":")[0]))


@pytest.fixture
def cable() -> Iterator[tuple[End, End]]:
    """Yield two ends with 10.1.1.1 and fd00::1 on the one, 10.1.1.2 and fd00::2 on the other, both up."""
    require_namespaces()
    with namespace() as near, namespace() as far:
        ip("-n", near, "link", "add", NAME, "type", "veth", "peer", "name", NAME, "netns", far)
        ends = _end(near, 1), _end(far, 2)
        for end in ends:
            wait_up(end.namespace, NAME)
        yield ends
