"""carpd: many vhosts in one process, from a file."""
