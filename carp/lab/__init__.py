"""A LAN of network namespaces on one machine: nodes, a switch, a measuring client and faults.

Used by the demo, the tests and the benchmarks; never by the engine. This package imports nothing by itself
because the helper processes (`carp.lab.probe`, `carp.lab.link`) must start fast and small.
"""
