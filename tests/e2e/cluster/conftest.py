from __future__ import annotations

from kubefix import kube

__all__ = ["kube"]
