"""What `vanguard serve` listens at is its own, and its processes end with it."""

import ctypes
import ipaddress
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from app.base.errors import ConfigurationError

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, of Linux


@contextmanager
def alone_at(host: str, port: int) -> Iterator[None]:
    """Nobody else is served at the port for the time of the block; raises ConfigurationError where somebody is.

    The server shares its port among its processes, and the kernel would let another service share it, too: half of the
    answers would be of that one. So the name of the address is taken before, for as long as one of the processes lives.
    """
    if port == 0:  # any that is free
        yield
        return
    with socket.socket(socket.AF_UNIX) as name:
        try:
            if sys.platform == "linux":
                name.bind(f"\0vanguard serve {host} {port}")
            _look(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} at {host} cannot be had ({error.strerror}). VANGUARD_PORT and VANGUARD_HOST say another."
            ) from None
        yield


def _look(host: str, port: int) -> None:
    """Raises OSError where somebody listens, whether or not they would share."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as looking:
            # Not who has just ended: their connections linger.
            looking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            looking.bind(address)


def end_with_parent() -> None:
    """The process ends when the one that began it is gone, however that came about; on Linux."""
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent.pid:  # it was gone before
        os.kill(os.getpid(), signal.SIGKILL)


EXPOSE = "--expose-known-passwords"


def refuse_exposure(host: str, said_by: str) -> None:
    """Raises ConfigurationError where others than this machine would reach what everybody knows the passwords of."""
    if is_public(host):
        raise ConfigurationError(
            f"{said_by} is {host!r}, which others than this machine may reach, and everybody knows the passwords of "
            f"what is served. Say {EXPOSE} if that is what you want, or leave {said_by} out."
        )


def is_public(host: str) -> bool:
    """Whether others than this machine reach the address."""
    with suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return host != "localhost"
