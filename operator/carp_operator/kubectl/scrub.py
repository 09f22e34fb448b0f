"""Take secrets out of what is written for others to read: known values wherever they stand, and likely ones.

Pure. Every value of every Secret that was read is searched for as it is and in the forms in which programs
repeat it: base64, JSON (once and twice), URL, hexadecimal, each line of a longer one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
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
_LIKELY: Final = re.compile(r"pass|secret|token|credential|api_?key|private", re.IGNORECASE)
"""Names of environment variables whose values are nobody's business."""


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
    """Return an object without a Secret's contents, values of likely variables, and managedFields."""
    found: Object = json.loads(json.dumps(item))
    meta = found.get("metadata")
    if isinstance(meta, dict):
        meta.pop("managedFields", None)
        notes = meta.get("annotations")
        if isinstance(notes, dict):
            notes.pop(_APPLIED, None)
    if found.get("kind") == "Secret":
        found["keys"] = sorted({*(found.pop("data", None) or {}), *(found.pop("stringData", None) or {})})
        return found
    _hide(found)
    return found


def _hide(data: Any) -> None:
    """Replace the values of variables whose name says that they are secret, anywhere in an object."""
    if isinstance(data, list):
        for each in data:
            _hide(each)
    elif isinstance(data, dict):
        name = data.get("name")
        if isinstance(name, str) and _LIKELY.search(name) and isinstance(data.get("value"), str):
            data["value"] = GONE
        for each in data.values():
            _hide(each)
