"""Kubernetes side of carp-operator: it decides which nodes hold which addresses and tells each node's engine.

The engine (package `carp`) never imports this package and needs no cluster.
"""

from __future__ import annotations

__all__ = ()
