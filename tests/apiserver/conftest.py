from __future__ import annotations

from apifix import control_plane, make_control_plane, pytest_runtest_makereport

__all__ = ["control_plane", "make_control_plane", "pytest_runtest_makereport"]
