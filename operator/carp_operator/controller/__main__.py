"""`python -m carp_operator.controller`."""

from __future__ import annotations

import sys

from carp_operator.controller.main import main

if __name__ == "__main__":
    sys.exit(main())
