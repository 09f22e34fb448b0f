"""Run the command as ``python -m carp``."""

from __future__ import annotations

import sys

from carp.cli import main

if __name__ == "__main__":
    sys.exit(main())
