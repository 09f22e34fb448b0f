"""Log what happens: a state change is one line; drops and failed sends at most one a minute per reason."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from carp.core import events as ev
from carp.core.errors import DropReason
from carp.logs import Quiet

if TYPE_CHECKING:
    from carp.core.snapshot import Snapshot
    from carp.core.vhost import Vhost
    from carp.rawsock import Packet

log: Final = logging.getLogger("carp")
_ORDINARY: Final = frozenset({DropReason.VRRP, DropReason.VHID, DropReason.LOOP, DropReason.INACTIVE})
"""What a healthy segment shows: others' vhids, VRRP routers, echoes."""


def _fields(vhost: str, event: str, **more: object) -> dict[str, dict[str, object]]:
    return {"fields": {"vhost": vhost, "event": event, **more}}


def verdict(vhost: str, reason: str, amount: int, detail: str) -> None:
    """Log what a health check says now; ``reason`` is its demotion's name, ``amount`` 0 for none."""
    level, does = (logging.WARNING, f"demotes by {amount}") if amount else (logging.INFO, "does not demote")
    check = reason.removeprefix("health:")
    extra = _fields(vhost, "health", check=check, demotion=amount, detail=detail)
    log.log(level, "health check %s %s: %s", check, does, detail, extra=extra)


def withdrawn(vhost: str, cause: str) -> None:
    """Log that a vhost is kept from taking part, before it stops."""
    log.warning("withdrawn: %s", cause, extra=_fields(vhost, "withdrawn", cause=cause))


def restored(vhost: str, cause: str) -> None:
    """Log that a withdrawn vhost may take part again."""
    log.info("restored: %s", cause, extra=_fields(vhost, "restored", cause=cause))


class Reporter:
    """Writes the log of an engine."""

    def __init__(self) -> None:
        """Begin with nothing kept back."""
        self._quiet = Quiet()

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        """Log a state change or a notice."""
        name = vhost.config.name
        match effect:
            case ev.Changed(old, new, cause, peer):
                detail = f" {vhost.reason}" if vhost.reason else ""
                whom = f", {peer}" if peer else ""
                extra = _fields(name, "state", old=old.value, new=new.value, cause=cause.value, peer=peer)
                log.info("%s -> %s (%s%s)%s", old, new, cause, whom, detail, extra=extra)
            case ev.Notice(code, text, warning):
                log.log(logging.WARNING if warning else logging.INFO, "%s", text, extra=_fields(name, code))
            case ev.Stopped():
                log.info("stopped", extra=_fields(name, "stopped"))

    def send_failed(self, vhost: Vhost, problem: str) -> None:
        """Log that adverts do not leave."""
        self._once((vhost.config.name, problem), logging.WARNING, vhost.config.name, "send-failed", problem)

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        """Log why a packet was not believed."""
        level = logging.DEBUG if reason in _ORDINARY else logging.WARNING
        if not log.isEnabledFor(level):
            return
        about = "packet" if vhid is None else f"advert of vhid {vhid}"
        text = (
            f"{about} from {packet.source} on {interface} not believed: {_EXPLAIN.get(reason, reason.value)}"
        )
        fields = {"reason": reason.value, "source": str(packet.source), "vhid": vhid}
        self._once((interface, reason, packet.source), level, interface, "dropped", text, **fields)

    def _once(self, key: Any, level: int, vhost: str, event: str, text: str, **more: object) -> None:
        kept_back = self._quiet.allow(key, time.monotonic())
        if kept_back is not None:
            again = f" ({kept_back} more in the last minute)" if kept_back else ""
            log.log(level, "%s%s", text, again, extra=_fields(vhost, event, **more))


_EXPLAIN: Final = {
    DropReason.HMAC: "wrong HMAC: check vhid, password and the list of addresses",
    DropReason.TTL: "its TTL is not 255: it came through a router",
    DropReason.CHECKSUM: "wrong checksum",
    DropReason.UNSEALED: "it bears no seal, and this vhost demands one",
    DropReason.REPLAY: "its seal is not newer than what its sender has already sent: a replay",
    DropReason.STALLED: "it waited while this process stood still",
}


def describe(snapshot: Snapshot, interface: str, now: float) -> str:
    """Return one line about a vhost for SIGUSR1, in ucarp's order: state, interface, vhid."""
    seen = snapshot.master
    parts = [f"{snapshot.state} on {interface or 'no interface'} id {snapshot.vhid}"]
    parts.append(f"for {now - snapshot.since:.1f} s")
    if snapshot.reason:
        parts.append(snapshot.reason)
    if snapshot.demotions:
        parts.append("demoted: " + ", ".join(f"{k} {v}" for k, v in snapshot.demotions.items()))
    if seen is not None:
        header = f"{seen.advbase}/{seen.advskew}"
        parts.append(f"last heard {seen.sources[0]} ({header}) {now - seen.heard_at:.1f} s ago")
    if snapshot.conflict is not None:
        parts.append(f"address in use by {snapshot.conflict[1].hex(':')}")
    return ", ".join(parts)
