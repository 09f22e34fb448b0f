"""Hand carpd what the CarpNode says, once for each thing said, and keep what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from carp.commands.client import NoAnswerError, RefusedError
from carp_operator.agent.report import MAX_TEXT, REASONS, Verdict
from carp_operator.agent.wanted import Nothing, Wanted, wanted
from carp_operator.kube.errors import KubeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from carp_operator.agent.metrics import Tally
    from carp_operator.agent.troubles import Troubles
    from carp_operator.agent.view import Message, View
    from carp_operator.kube.client import Object

log: Final = logging.getLogger("carp.agent")
SOON: Final = 2.0
"""s until what got no answer is tried again."""
STORING: Final = 60.0
"""s that carpd may take to store settings: a disk can hang, and what is asked again queues behind it."""
LATER: Final = 30.0
"""s until what was refused or not stored is tried again: a lock or a disk may be free by then."""
_SUBJECT: Final = "settings"


class Settling:
    """Keeps carpd at the spec that was read last."""

    def __init__(
        self,
        view: View,
        ask: Callable[..., Awaitable[Message]],
        read_again: Callable[[], Awaitable[Object]],
        on_verdict: Callable[[], None],
        *,
        troubles: Troubles,
        tally: Tally,
    ) -> None:
        """``ask`` is carpd's; ``read_again`` reads the CarpNode past every cache, raising KubeError."""
        self._view = view
        self._ask = ask
        self._read_again = read_again
        self._on_verdict = on_verdict
        self._troubles = troubles
        self._tally = tally
        self.node: Object | None = None
        self._keys: dict[str, str] | None = None
        self._looked = False
        self.verdict = Verdict()
        self._settled: Wanted | Nothing | None = None
        """What carpd has answered to on this connection."""
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def read(self, node: Object) -> None:
        """Take over a CarpNode that was read."""
        self.node = node
        self._tally.generation = (node.get("metadata") or {}).get("generation") or 0
        self._wake.set()

    def unlock(self, keys: dict[str, str]) -> None:
        """Take over the passwords that were read."""
        self._keys = keys
        self._wake.set()

    def looked(self) -> None:
        """Take note that the passwords were looked for: whether there are any is now known."""
        if not self._looked:
            self._looked = True
            self._wake.set()

    def connected(self) -> None:
        """Start over with a carpd that may be another one."""
        self._settled = None
        self._wake.set()

    @property
    def pending(self) -> bool:
        """Whether carpd is still to be told something, and can be."""
        if self.node is None or not self._view.connected:
            return False
        return wanted(self.node, self._keys) != self._settled

    async def run(self) -> None:
        """Settle whenever there is something new, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pause = await self._settle()
            if pause is None:
                continue
            if self._timer is not None:
                self._timer.cancel()
            if pause:
                self._timer = asyncio.get_running_loop().call_later(pause, self._once_more)

    def _once_more(self) -> None:
        self._settled = None
        self._wake.set()

    async def _settle(self) -> float | None:
        """Bring carpd to the spec; return in how many s to try again, 0: not by itself.

        None: there is nothing new, as after our own status is read; a trial that is planned stays so.
        """
        if self.node is None or not self._looked or not self._view.connected:
            return 0.0
        goal = wanted(self.node, self._keys)
        if goal == self._settled:
            return None
        if isinstance(goal, Nothing):
            self._conclude(goal, replace(self.verdict, reason=goal.reason, message=goal.message))
            return 0.0
        try:
            restored = await self._runs_backwards(goal)
            if restored is None:
                self._wake.set()
                return 0.0
            answer = await self._ask("apply", patience=STORING, **goal.request(restored=restored))
        except KubeError as error:
            # Nothing is taken back because of something that may be old; unknown is not empty.
            problem = f"generation {goal.generation} is older than what carpd has; cannot read again: {error}"
            self._troubles.set(_SUBJECT, problem)
            return SOON
        except NoAnswerError as error:
            self._tally.applies["unanswered"] += 1
            self._troubles.set(_SUBJECT, str(error))
            return SOON
        except RefusedError as error:
            self._tally.applies["refused"] += 1
            self._troubles.set(_SUBJECT, f"generation {goal.generation} refused: {error}")
            message = str(error)[:MAX_TEXT]
            self._conclude(goal, replace(self.verdict, reason="Refused", message=message))
            return LATER
        return self._applied(goal, answer)

    async def _runs_backwards(self, goal: Wanted) -> bool | None:
        """Whether the object itself has become older, as after its etcd was restored.

        None: it has not; what a quorum knows was taken over instead. Raises KubeError.
        """
        held = self._view.daemon
        same = (goal.uid, goal.cluster) == (held.get("uid"), held.get("cluster"))
        if not same or goal.generation >= held.get("generation", 0):
            return False
        node = await self._read_again()
        metadata = node.get("metadata") or {}
        if (metadata.get("uid"), metadata.get("generation")) == (goal.uid, goal.generation):
            log.warning("generation %d of the CarpNode comes after %d", goal.generation, held["generation"])
            return True
        self.read(node)
        return None

    def _applied(self, goal: Wanted, answer: Message) -> float:
        self._tally.applies["done"] += 1
        stored = bool(answer.get("persisted"))
        kept: dict[str, Any] = answer.get("kept") or {}
        refused = {name: goal.missing.get(name, str(problem)) for name, problem in kept.items()}
        source = {"uid": goal.uid, "generation": goal.generation, "cluster": goal.cluster}
        self._view.daemon |= source | {"persisted": stored}
        verdict = self.verdict
        if stored:
            verdict = replace(verdict, uid=goal.uid, generation=goal.generation)
            self._tally.confirmed = goal.generation
        lines = [f"{name}: {problem}" for name, problem in sorted(refused.items())]
        reason = "VhostsRefused" if refused else "Applied"
        message = "; ".join(lines)[:MAX_TEXT] or REASONS["Applied"]
        self._troubles.set(_SUBJECT, "; ".join(lines) or ("" if stored else str(answer.get("problem"))))
        self._log(goal, answer)
        self._conclude(goal, replace(verdict, reason=reason, message=message, refused=refused))
        return 0.0 if stored and not refused else LATER

    def _log(self, goal: Wanted, answer: Message) -> None:
        counts = Counter(outcome["result"] for outcome in answer.get("outcomes", ()))
        if counts.keys() - {"unchanged"}:
            words = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
            log.info("generation %d: %s", goal.generation, words)

    def _conclude(self, goal: Wanted | Nothing, verdict: Verdict) -> None:
        self._settled = goal
        self.verdict = verdict
        self._on_verdict()
