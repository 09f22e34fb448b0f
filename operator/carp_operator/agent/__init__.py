"""The agent of a node: hands its CarpNode's settings to carpd, and carpd's state to the CarpNode."""
