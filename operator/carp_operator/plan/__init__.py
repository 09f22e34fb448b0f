"""From a snapshot of the cluster to what every node should run: pure, sorted, deterministic."""
