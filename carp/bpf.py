"""Classic BPF programs on sockets (struct sock_filter, sock_fprog in linux/filter.h)."""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Instruction: TypeAlias = tuple[int, int, int, int]
"""code, jump if true, jump if false, operand."""

_SO_ATTACH_FILTER = 26

LOAD_WORD = 0x20  # A = 32 bits at k
LOAD_HALF = 0x28  # A = 16 bits at k
LOAD_BYTE = 0x30  # A = 8 bits at k
LOAD_BYTE_AT_X = 0x50  # A = 8 bits at X + k
LOAD_CONSTANT = 0x00  # A = k
LOAD_X = 0x01  # X = k
MOVE_TO_X = 0x07  # X = A
AND = 0x54  # A = A & k
IF_EQUAL = 0x15
RETURN = 0x06

ACCEPT: Instruction = (RETURN, 0, 0, 0xFFFFFFFF)
DROP: Instruction = (RETURN, 0, 0, 0)

# Ancillary loads (linux/filter.h, SKF_AD_OFF + n) answer from the packet's metadata instead of its bytes.
PACKET_TYPE = 0xFFFFF000 + 4
NETLINK_ATTRIBUTE = 0xFFFFF000 + 12  # A = offset of the attribute of type X found from offset A on, or 0
VLAN_TAG = 0xFFFFF000 + 44


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel drop what `program` rejects before it is queued on `sock`.

    Raises OSError when the kernel refuses the program.
    """
    code = array.array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    # `code` must stay referenced until the call is over: the kernel reads it through this pointer.
    pointer, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), pointer))
