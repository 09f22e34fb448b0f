"""CARP in user space: elections on the wire, addresses that expire in the kernel.

Import what you need from the submodules: ``carp.core`` is pure protocol, ``carp.engine`` runs it.
"""

from __future__ import annotations

__all__ = ("__version__",)

__version__ = "0.1.0"
