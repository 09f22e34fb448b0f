"""The resources of group `carp.vip`: fields, rules and defaults, written once. Pure."""
