"""A listening socket that can be closed without resetting connections that the kernel has already accepted."""

import contextlib
import ctypes
import socket
import sys

_BACKLOG = 1024
_SO_ATTACH_FILTER = 26
# Classic BPF on a TCP segment: load the flags (byte 13), drop the segment where SYN is set, else take it whole.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF))


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def open_listener(host: str, port: int) -> socket.socket:
    """A non-blocking socket that listens; raises OSError where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def refuse_newcomers(listener: socket.socket) -> None:
    """Let nobody knock any more, while handshakes under way still end; without effect but on Linux.

    A listener that is closed resets the connections in its queue. With this before the close there are none: a client
    that comes later finds no answer at first, and the port closed when it asks again.
    """
    if not sys.platform.startswith("linux"):
        return
    instructions = (_Instruction * len(_DROP_SYN))(*(_Instruction(*line) for line in _DROP_SYN))
    program = _Program(len(_DROP_SYN), instructions)
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))


def take_waiting(listener: socket.socket) -> list[socket.socket]:
    """The connections in the listener's queue."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            taken.append(accepted)
    return taken
