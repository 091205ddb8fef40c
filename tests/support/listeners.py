"""Where processes listen, as the kernel has it."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"


def listening_at(*pids: int) -> set[tuple[str, int]]:
    """Addresses and ports of TCP at which the processes and all that they started listen."""
    inodes = {inode for pid in tree(pids) for inode in _sockets(pid)}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTEN and words[9] in inodes:
                address, _, port = words[1].partition(":")
                # Words of four bytes, each as this machine has it: the last byte first.
                packed = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found


def tree(pids: Iterable[int]) -> set[int]:
    """The processes, and whatever they started."""
    found = set(pids)
    for pid in list(found):
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found |= tree(int(each) for each in (task / "children").read_text().split())
    return found


def _sockets(pid: int) -> set[str]:
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
