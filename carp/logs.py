"""Where log lines go: standard output and error, or JSON, and syslog. Writing never waits for a reader.

A terminal stopped by Ctrl-S, a full pipe or a stuck syslog daemon must not stop an election, so a line that
cannot be written at once is left out and counted.
"""

from __future__ import annotations

import json as json_format
import logging
import os
import select
import socket
import syslog
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

_NAMES: Final = (
    *("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"),
    *(f"local{number}" for number in range(8)),
)
FACILITIES: Final = {
    **{name: int(getattr(syslog, f"LOG_{name.upper()}", 10 << 3)) for name in _NAMES},
    "security": syslog.LOG_AUTH,
    "none": -1,
}
"""Names that ucarp's --facility knows, with syslog's numbers; authpriv (10) is missing in some Pythons."""

SYSLOG_SOCKET: Final = "/dev/log"
_MAX_TEXT: Final = 1000
"""Characters of a message, so that a line fits into PIPE_BUF, which a writable pipe takes without waiting."""
_ONCE_PER: Final = 60.0
_MAX_KEYS: Final = 1024


def setup(*, json: bool, debug: bool, facility: str | None, daemon: bool) -> None:
    """Direct the loggers below ``carp``.

    In the foreground text goes to standard output, from WARNING on to standard error (as ucarp does), or
    JSON to standard error. ``daemon`` leaves out both; ``facility`` adds syslog.
    """
    logger = logging.getLogger("carp")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    # Without any handler, logging would write warnings to standard error on its own.
    logger.addHandler(logging.NullHandler() if daemon else _Streams(json=json))
    if facility is not None:
        logger.addHandler(_Syslog(FACILITIES[facility]))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the caller gave by ``extra={"fields": {...}}``."""
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _message(record: logging.LogRecord) -> str:
    """Return the message in one line of bounded length."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({record.exc_info[1]!r} in {_place(record)})"
    return text.replace("\n", "\\n")[:_MAX_TEXT]


def _place(record: logging.LogRecord) -> str:
    """Return where an exception was raised: its innermost frame."""
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return record.funcName
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def as_text(record: logging.LogRecord) -> str:
    """Return ``2026-01-02T03:04:05.678+01:00 INFO eth0.42 message``, in local time."""
    time = datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(timespec="milliseconds")
    return f"{time} {record.levelname} {_fields(record).get('vhost', '-')} {_message(record)}"


def as_json(record: logging.LogRecord) -> str:
    """Return one JSON object: time (RFC 3339, UTC), level, logger, vhost, event, message, other fields."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields = _fields(record)
    line = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "vhost": fields.get("vhost"),
        "event": fields.get("event"),
        "message": _message(record),
    }
    return json_format.dumps({**fields, **line}, ensure_ascii=False, default=str)


class _Streams(logging.Handler):
    """Lines to the standard streams' descriptors, so that nothing is held back in a buffer."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json
        self._lost = {1: 0, 2: 0}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line if that is possible without waiting."""
        descriptor = 2 if self._json or record.levelno >= logging.WARNING else 1
        text = as_json(record) if self._json else as_text(record)
        if lost := self._lost[descriptor]:
            message = f"{lost} log lines are lost: nobody read them"
            note = logging.makeLogRecord({"name": record.name, "levelname": "WARNING", "msg": message})
            text = f"{as_json(note) if self._json else as_text(note)}\n{text}"
        if _write(descriptor, text + "\n"):
            self._lost[descriptor] = 0
        else:
            self._lost[descriptor] += 1


def _write(descriptor: int, text: str) -> bool:
    """Write to a descriptor that takes it now; whether it did."""
    data = text.encode(errors="backslashreplace")
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if len(data) > select.PIPE_BUF or not poll.poll(0):
        return False
    try:
        os.write(descriptor, data)
    except OSError:
        return False
    return True


class _Syslog(logging.Handler):
    """Datagrams to the local syslog daemon (RFC 3164 as every one reads it), ident ``carp``."""

    def __init__(self, facility: int) -> None:
        super().__init__()
        self._facility = facility
        self._socket: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message, once more on a new socket: the daemon may have been restarted."""
        priority = self._facility | _severity(record.levelno)
        vhost = _fields(record).get("vhost")
        text = f"{vhost}: {_message(record)}" if vhost else _message(record)
        packet = f"<{priority}>carp[{os.getpid()}]: {text}".encode(errors="backslashreplace")
        for _ in range(2):
            with suppress(OSError):
                self._connected().send(packet)
                return
            self.close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.connect(SYSLOG_SOCKET)
        return self._socket

    def close(self) -> None:
        """Close the socket; the next line opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _severity(level: int) -> int:
    if level >= logging.ERROR:
        return syslog.LOG_ERR
    if level >= logging.WARNING:
        return syslog.LOG_WARNING
    return syslog.LOG_INFO if level >= logging.INFO else syslog.LOG_DEBUG


class Quiet:
    """Let each key pass at most once a minute, and count what it kept back."""

    def __init__(self) -> None:
        self._keys: OrderedDict[object, tuple[float, int]] = OrderedDict()
        """When each passed last, oldest first, and how many were kept back since."""

    def allow(self, key: object, now: float) -> int | None:
        """Return how many were kept back since the last one that passed, None when this one is kept back too.

        ``now`` is monotonic, in seconds. Senders choose keys (a forged source), so there are at most 1024;
        more share one. A call costs the same however many there are.
        """
        if key not in self._keys and len(self._keys) >= _MAX_KEYS:
            self._prune(now)
            if len(self._keys) >= _MAX_KEYS:
                key = None
        last, kept = self._keys.get(key, (-_ONCE_PER, 0))
        if now - last < _ONCE_PER and key in self._keys:
            self._keys[key] = (last, kept + 1)
            return None
        self._keys[key] = (now, 0)
        self._keys.move_to_end(key)
        return kept

    def _prune(self, now: float) -> None:
        """Drop what may pass again anyway: each key once, so that a flood pays for its own only."""
        while self._keys and now - next(iter(self._keys.values()))[0] >= _ONCE_PER:
            self._keys.popitem(last=False)
