"""The one error of the lab."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab needs is missing or did not happen; the text is one line for the user."""
