"""`carp status --watch`: what changes, for as long as somebody looks; also over a restart of carpd."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from carp.commands import words
from carp.commands.arguments import OK, chosen, say
from carp.commands.client import Client, NoAnswerError, RefusedError
from carp.commands.status import picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REFRESH: Final = 1.0
"""s between two pictures when nothing changes: the ages in them grow."""
_AGAIN: Final = 0.5
"""s until the next attempt when nobody answers."""
_PASSING: Final = ("seconds", "clockSkew", "lease", "drops", "sendProblem", "error")
"""What differs from one status to the next without anything having happened."""


def follow(path: str, names: Sequence[str], output: str | None) -> int:
    """Show changes until Ctrl-C; return the exit code."""
    on_terminal = sys.stdout.isatty() and output != "json"
    view: _View = _Screen(names, wide=output == "wide") if on_terminal else _Lines(names, output == "json")
    try:
        while True:
            try:
                with Client(path) as client:
                    view.run(client)
            except (NoAnswerError, RefusedError) as error:
                # Refused is also what it says before it stops for a restart: it will answer again.
                view.lost(str(error))
                time.sleep(_AGAIN)
    except KeyboardInterrupt:
        return OK


class _View(Protocol):
    def run(self, client: Client) -> None:
        """Show what this connection tells until it ends with NoAnswerError or RefusedError."""

    def lost(self, problem: str) -> None:
        """Show that nobody answers."""


class _Screen:
    """The table, redrawn over itself."""

    def __init__(self, names: Sequence[str], *, wide: bool) -> None:
        self._names = names
        self._wide = wide
        self._drawn = 0
        self._last: list[str] = []

    def run(self, client: Client) -> None:
        client.call("watch")
        while True:
            answer = client.call("status")
            known = {vhost["name"] for vhost in answer["vhosts"]}
            vhosts = chosen(answer["vhosts"], [name for name in self._names if name in known])
            self._last = picture(answer, vhosts, wide=self._wide)
            self._draw("Ctrl-C ends", self._last)
            client.receive(_REFRESH)

    def lost(self, problem: str) -> None:
        self._draw(problem, self._last)

    def _draw(self, remark: str, body: Sequence[str]) -> None:
        columns, rows = shutil.get_terminal_size()
        shown = [f"{time.strftime('%H:%M:%S')}  {remark}", *body][: max(2, rows - 1)]
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        # To the line's end after each line, to the screen's end once: no flicker, no remains.
        sys.stdout.write(back + "".join(f"{line[:columns]}\x1b[K\n" for line in shown) + "\x1b[J")
        sys.stdout.flush()
        self._drawn = len(shown)


class _Lines:
    """A line for each change, the first ones for what there is."""

    def __init__(self, names: Sequence[str], as_json: bool) -> None:  # noqa: FBT001 (one caller)
        self._names = names
        self._json = as_json
        self._known: dict[str, dict[str, Any]] = {}
        self._is_lost = False

    def run(self, client: Client) -> None:
        message = client.call("watch")
        self._is_lost = False
        while True:
            present = {vhost["name"] for vhost in message["vhosts"]}
            self._take(message["vhosts"], gone=self._known.keys() - present)
            self._listen(client, time.monotonic() + _REFRESH)
            # carpd tells at once what its elections do; all else is found by asking.
            message = client.call("status")

    def _listen(self, client: Client, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            event = client.receive(left)
            if event is not None:
                self._take(event["vhosts"], gone=event["gone"])

    def lost(self, problem: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._print(problem, {"problem": problem})

    def _take(self, vhosts: Iterable[dict[str, Any]], gone: Iterable[str]) -> None:
        for vhost in vhosts:
            name = vhost["name"]
            before, self._known[name] = self._known.get(name), vhost
            if self._names and name not in self._names:
                continue
            if before is None or _lasting(before) != _lasting(vhost):
                self._print("; ".join(changes(before, vhost)), vhost)
        for name in sorted(gone):
            if self._known.pop(name, None) is not None and (not self._names or name in self._names):
                self._print(f"{name}: removed", {"name": name, "removed": True})

    def _print(self, text: str, data: dict[str, Any]) -> None:
        now = time.time()
        if self._json:
            say(json.dumps({"time": round(now, 3), **data}, separators=(",", ":")))
        else:
            say(f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(now))} {text}")
        sys.stdout.flush()


def _lasting(vhost: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in vhost.items() if key not in _PASSING}
    # A status made later can round its start by a second.
    kept.pop("since")
    if kept["master"] is not None:
        kept["master"] = {key: value for key, value in kept["master"].items() if key != "lastHeard"}
    return kept


def changes(before: dict[str, Any] | None, vhost: dict[str, Any]) -> list[str]:
    """Return in words what is different in a vhost's status; all of it when there was none before."""
    name, state = vhost["name"], vhost["state"]
    if before is None:
        seen = vhost["master"]
        whom = "" if seen is None else f", master seen {seen['source']}"
        return [f"{name}: {state}, demotion {words.demotions(vhost)}{whom}"]
    found = []
    if before["state"] != state or before["transitions"] != vhost["transitions"]:
        found.append(f"{name}: {before['state']} -> {state} ({words.cause(vhost['cause'])})")
    if before["demotions"] != vhost["demotions"]:
        found.append(f"{name}: demotion {words.demotions(before)} -> {words.demotions(vhost)}")
    if _master(before) != _master(vhost):
        found.append(f"{name}: master seen {_master(before)} -> {_master(vhost)}")
    found += [text for text in words.remarks(vhost) if text not in set(words.remarks(before))]
    return found or [f"{name}: settings changed"]


def _master(vhost: dict[str, Any]) -> str:
    seen = vhost["master"]
    if seen is None:
        return "none"
    demoted = f", demotion {seen['demotion']}" if seen["demotion"] else ""
    return f"{seen['source']} ({seen['advbase']}/{seen['advskew']}{demoted})"
