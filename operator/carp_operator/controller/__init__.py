"""Collects a snapshot, asks the planner, writes the difference. The only importer of `kopf`."""
