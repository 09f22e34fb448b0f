"""Take secrets out of what is written for others to read: known values wherever they stand, and likely ones.

Pure. Every value of every Secret that was read is searched for as it is and in the forms in which programs
repeat it: base64, JSON (once and twice), URL, hexadecimal, each line of a longer one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carp_operator.kube.client import Object

GONE: Final = "(removed)"
_SHORT: Final = 6
"""Characters below which a value is replaced only where it stands as a word of its own."""
_LINE: Final = 12
"""Characters from which a line of a longer value tells something by itself."""
_ACCOUNT: Final = "kubernetes.io/service-account-token"
_PUBLIC: Final = ("namespace", "ca.crt")
"""Keys of a service account's token that hold no secret: their values stand in every object."""
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_LIKELY: Final = re.compile(
    r"pass|secret|token|credential|api[-_]?key|private|authorization|cookie", re.IGNORECASE
)
"""Names of variables, options and fields whose values are nobody's business."""
_REFERENCE: Final = re.compile(r"(ref|name|file|path)$", re.IGNORECASE)
"""Ends of the names of fields that say where a secret stands."""
_USER: Final = re.compile(r"//[^/?#\s]*@")
_QUERY: Final = re.compile(r"(://[^\s?]*)\?\S+")
_COPIES: Final = (_APPLIED, "objectset.rio.cattle.io/applied", "kapp.k14s.io/original")
"""Annotations in which tools keep the whole object again."""
_KEYS_ONLY: Final = ("Secret", "ConfigMap")
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_PROGRAMS: Final = ("carp", "carp-agent", "carp-controller")


def values(secrets: Iterable[Object]) -> set[str]:
    """Return what must not appear: the values of these Secrets, decoded, as text."""
    found: set[str] = set()
    for secret in secrets:
        public = _PUBLIC if secret.get("type") == _ACCOUNT else ()
        for key, encoded in (secret.get("data") or {}).items():
            if key in public:
                continue
            try:
                raw = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError, TypeError):
                continue
            # What is no text is repeated by programs as base64 or hexadecimal only.
            found.add(raw.decode("utf-8", "surrogateescape"))
        found.update(str(value) for value in (secret.get("stringData") or {}).values())
    return {value for value in found if value.strip()}


class Scrubber:
    """Replaces values in texts."""

    def __init__(self, found: Iterable[str] = ()) -> None:
        """``found``: the values that must not appear."""
        forms = {form for value in found for form in _forms(value)}
        # The longest first: one value may be part of another. A regular expression of all takes minutes.
        self._long = sorted((form for form in forms if len(form) >= _SHORT), key=len, reverse=True)
        short = sorted((form for form in forms if len(form) < _SHORT), key=len, reverse=True)
        words = "|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in short)
        self._short = re.compile(words) if words else None

    def text(self, text: str) -> str:
        """Return a text without the values."""
        for form in self._long:
            text = text.replace(form, GONE)
        return self._short.sub(GONE, text) if self._short else text

    def data(self, content: bytes) -> bytes:
        """Return bytes without the values."""
        text = content.decode("utf-8", "surrogateescape")
        return self.text(text).encode("utf-8", "surrogateescape")


def _forms(value: str) -> Iterator[str]:
    """Yield how a value may be written."""
    for text in {value, value.strip()}:
        raw = text.encode("utf-8", "surrogateescape")
        encoded = base64.b64encode(raw).decode("ascii")
        yield text
        yield encoded
        yield encoded.rstrip("=")
        yield base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
        yield raw.hex()
        yield quote(raw, safe="")
        yield quote_plus(raw)
        for ascii_only in (True, False):
            once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
            yield once
            yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        yield repr(text)[1:-1]
        if "\n" in text:
            yield from (line.strip() for line in text.splitlines() if len(line.strip()) >= _LINE)


def cleaned(item: Object) -> Object:
    """Return an object without what may be secret, and without managedFields.

    Of a Secret and of a ConfigMap only the keys stay; of the rest see `_hide`.
    """
    found: Object = json.loads(json.dumps(item))
    meta = found.get("metadata")
    if isinstance(meta, dict):
        meta.pop("managedFields", None)
        notes = meta.get("annotations")
        if isinstance(notes, dict):
            for copy in _COPIES:
                notes.pop(copy, None)
    if found.get("kind") in _KEYS_ONLY:
        parts = [found.pop(part, None) or {} for part in ("data", "stringData", "binaryData")]
        found["keys"] = sorted({key for part in parts for key in part})
    _hide(found)
    return found


def _hide(data: Any) -> None:
    """Replace, anywhere in an object, what is likely to be secret.

    That is the value of what has a telling name, user and query of a URL, the values of headers, and the
    arguments of a command.
    """
    if isinstance(data, list):
        for place, each in enumerate(data):
            data[place] = _urls(each)
            _hide(each)
    elif isinstance(data, dict):
        name = data.get("name")
        if isinstance(name, str) and _LIKELY.search(name) and isinstance(data.get("value"), str):
            data["value"] = GONE
        for key in data:
            data[key] = _urls(_shown(key, data[key]))
            _hide(data[key])


def _shown(key: str, value: Any) -> Any:
    """Return what may be shown of a field."""
    if _LIKELY.search(key) and not _REFERENCE.search(key):
        return _masked(value)
    if key in ("url", "path") and isinstance(value, str):
        return _address(value)
    if key == "httpHeaders" and isinstance(value, list):
        return [
            {**each, "value": GONE} if isinstance(each, dict) and "value" in each else each for each in value
        ]
    if key == "exec" and isinstance(value, dict):
        return _cut(value, "command", 1)
    if key in _CONTAINERS and isinstance(value, list):
        return [_container(each) for each in value]
    return value


def _masked(value: Any) -> Any:
    """Return what stands under a telling name without its texts; what is nested has names of its own."""
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return GONE if isinstance(value, str) else value


def _address(url: str) -> str:
    """Return a URL without user and query, where passwords and tokens stand."""
    rest, query, _ = _USER.sub(f"//{GONE}@", url).partition("?")
    return f"{rest}?{GONE}" if query else rest


def _urls(value: Any) -> Any:
    """Return a text with every URL in it as in `_address`; what is no text as it is."""
    if not isinstance(value, str) or "://" not in value:
        return value
    return _QUERY.sub(rf"\1?{GONE}", _USER.sub(f"//{GONE}@", value))


def _container(data: Any) -> Any:
    """Return a container without values in its command line; of a program not ours only the name stays."""
    if not isinstance(data, dict):
        return data
    command = data.get("command")
    program = command[0] if isinstance(command, list) and command else ""
    if program not in _PROGRAMS:
        return _cut(_cut(data, "command", 1), "args", 0)
    found, before = dict(data), ""
    for part in ("command", "args"):
        words = [str(word) for word in data.get(part) or ()]
        if words:
            found[part] = [_word(word, last) for last, word in pairwise([before, *words])]
            before = words[-1]
    return found


def _word(word: str, before: str) -> str:
    """Return a word of a command line of ours: what belongs to a telling option, or to a short one, goes."""
    name, equals, _ = word.partition("=")
    if word.startswith("--"):
        return f"{name}={GONE}" if equals and _LIKELY.search(name) else word
    if word.startswith("-"):
        return word[:2] + (GONE if len(word) > 2 else "")
    return GONE if before.startswith("-") and "=" not in before else word


def _cut(data: dict[str, Any], key: str, kept: int) -> dict[str, Any]:
    """Return the same with only the first words of a command."""
    words = data.get(key)
    return {**data, key: [*words[:kept], GONE]} if isinstance(words, list) and len(words) > kept else data
