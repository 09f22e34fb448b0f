"""Look at CARP on the wire: `carp decode` (captures, hex) and `carp watch` (live).

Nothing here takes part in an election; the verdict on each packet comes from `carp.core`.
"""

from __future__ import annotations

from carp.inspect.decode import decode_main
from carp.inspect.watch import watch_main

__all__ = ["decode_main", "watch_main"]
