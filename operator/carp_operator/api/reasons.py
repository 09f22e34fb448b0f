"""The reasons of conditions and Events: one documented list."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    # Accepted
    "Planned": "Every member has been told.",
    "Invalid": "A field breaks a rule that the API server could not check. What runs stays.",
    "AddressInUse": "Another VirtualIP has one of the addresses: who is served with it, else the older. What "
    "runs of this one stays.",
    "AddressOfNode": "One of the addresses is a node's own. What runs stays.",
    "VhidInUse": "Another VirtualIP has this vhid on the same segment: who runs with it, else the older. "
    "What runs of this one stays.",
    "NoVhidLeft": "All 255 vhids of the segment are used or heard from others.",
    "PoolMissing": "There is no VirtualIPPool of that name. What runs stays.",
    "PoolExhausted": "The pool has no free address of a wanted family. What runs stays.",
    "PoolInvalid": "The pool breaks a rule: its addresses stay with who has them, new ones are not given.",
    "NoCandidate": "No node may hold the address; the message names what excluded them. What runs stays.",
    "NodesFull": "Every candidate node has its most vhosts, or sends as many adverts as it can.",
    "NoPassword": "The Secret or its key is missing, empty or too long. What runs stays.",
    "NotReported": "No agent of a candidate node has reported its interfaces yet.",
    # Advertised
    "Mastered": "One node holds the addresses and advertises.",
    "NoMaster": "No member says that it is master.",
    "Uninstalled": "The operator was uninstalled; nobody holds the addresses until it is installed again.",
    "Conflict": "Two members say that they are master, or a host that is no member answers for an address.",
    # Ready
    "Ready": "Accepted, advertised, and every member takes part.",
    "Degraded": "It answers, but a member is missing, has a problem, or a change waits for it.",
    "NotAccepted": "See the condition Accepted.",
    "NotAdvertised": "See the condition Advertised.",
    # Events
    "MasterChanged": "Another node holds the addresses now.",
    "Rotated": "A change of password or addresses has reached every member; the old one is dropped.",
    "SpecRestored": "Somebody edited the spec of a CarpNode; it was put right.",
    "SchemaOutdated": "The served CRD lacks a field that this version writes; it was left out.",
    "PoolReady": "The pool has addresses.",
}
"""Reason -> what it means and what happens."""
