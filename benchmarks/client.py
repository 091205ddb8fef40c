"""A load generator that costs little: HTTP/1.1 with kept connections over plain sockets, in a process of its own.

Reads one job a line from standard input, as JSON, and answers each with a line:

    {"port": 8000, "turns": [["GET ...", ...], ...], "rounds": 100, "forwards": false}
                                                                      one connection, the alternatives turn by turn
        -> {"seconds": [[...], ...], "statuses": [200]}
    {"port": 8000, "request": "GET ...", "connections": 4, "for": 2}  as many requests as go through
        -> {"requests": 1234, "seconds": 2.0, "statuses": [200]}
    {"port": 8000, "lists": [["POST ...", ...], ...]}                 a connection for each list, all at the same time
        -> {"seconds": 2.0, "statuses": [200]}
"""

import json
import selectors
import socket
import sys
import time
from typing import Any

HOST = "127.0.0.1"
CHUNK = 1 << 20


class Closed(Exception):
    """The server hung up."""


class Wire:
    """One connection, and the answer that comes in on it."""

    def __init__(self, port: int):
        self.socket = socket.create_connection((HOST, port), timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin()

    def _begin(self) -> None:
        self.parts: list[bytes] = []
        self.missing = -1  # bytes of the answer that are still to come; -1 before its head is there
        self.status = 0
        self.kept = False  # what is received

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self._begin()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what is there; whether the answer is complete."""
        chunk = self.socket.recv(CHUNK)
        if not chunk:
            raise Closed
        if self.missing >= 0:
            self.missing -= len(chunk)
            if self.kept:
                self.parts.append(chunk)
            return self.missing <= 0
        self.parts.append(chunk)
        head = chunk if len(self.parts) == 1 else b"".join(self.parts)
        end = head.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.status = int(head[9:12])
        self.missing = _length(head[:end], self.status) - (len(head) - end - 4)
        return self.missing <= 0

    def fetch(self, request: bytes) -> bytes:
        """Send a request; the body of its answer."""
        self.send(request)
        self.kept = True
        while not self.receive():
            pass
        return b"".join(self.parts).partition(b"\r\n\r\n")[2]

    def exchange(self, request: bytes) -> int:
        """Send a request and wait for its answer; the status."""
        self.send(request)
        while not self.receive():
            pass
        return self.status


def _length(head: bytes, status: int) -> int:
    if status == 304:
        return 0
    lower = head.lower()
    start = lower.find(b"\r\ncontent-length:")
    if start < 0:
        raise ValueError(f"an answer without its length: {head!r}")
    return int(lower[start + 17 :].split(b"\r\n", 1)[0])


def take_turns(port: int, turns: list[list[bytes]], rounds: int, forwards: bool) -> dict[str, Any]:
    """Each alternative once a round, backwards in every other one unless `forwards`. An alternative's requests come one
    after another, and from the start again.
    """
    wire = Wire(port)
    statuses: set[int] = set()
    seconds: list[list[float]] = [[] for _ in turns]
    for number in range(rounds):
        order = list(zip(turns, seconds, strict=True))
        for requests, taken in order if forwards or number % 2 else reversed(order):
            started = time.perf_counter()
            statuses.add(wire.exchange(requests[number % len(requests)]))
            taken.append(time.perf_counter() - started)
    wire.socket.close()
    return {"seconds": seconds, "statuses": sorted(statuses)}


def flood(port: int, request: bytes, connections: int, duration: float) -> dict[str, Any]:
    """Every connection sends its next request as soon as it has the answer to the one before."""
    statuses: set[int] = set()
    done = 0
    with selectors.DefaultSelector() as selector:
        wires = [Wire(port) for _ in range(connections)]
        for wire in wires:
            selector.register(wire.socket, selectors.EVENT_READ, wire)
            wire.send(request)
        started = time.perf_counter()
        while time.perf_counter() - started < duration:
            for key, _ in selector.select(1):
                if key.data.receive():
                    statuses.add(key.data.status)
                    done += 1
                    key.data.send(request)
        elapsed = time.perf_counter() - started
        for wire in wires:
            wire.socket.close()
    return {"requests": done, "seconds": elapsed, "statuses": sorted(statuses)}


def exhaust(port: int, lists: list[list[bytes]]) -> dict[str, Any]:
    """Each list goes over a connection of its own, a request as soon as the one before is answered."""
    statuses: set[int] = set()
    with selectors.DefaultSelector() as selector:
        left = {Wire(port): iter(requests) for requests in lists}
        started = time.perf_counter()
        for wire, requests in left.items():
            selector.register(wire.socket, selectors.EVENT_READ, wire)
            wire.send(next(requests))
        while left:
            for key, _ in selector.select():
                wire = key.data
                if not wire.receive():
                    continue
                statuses.add(wire.status)
                if (request := next(left[wire], None)) is not None:
                    wire.send(request)
                    continue
                selector.unregister(wire.socket)
                wire.socket.close()
                del left[wire]
        elapsed = time.perf_counter() - started
    return {"seconds": elapsed, "statuses": sorted(statuses)}


def main() -> None:
    """Jobs in, answers out, until standard input ends."""
    for line in sys.stdin:
        job = json.loads(line)
        if "turns" in job:
            turns = [[request.encode() for request in requests] for requests in job["turns"]]
            answer = take_turns(job["port"], turns, job["rounds"], job["forwards"])
        elif "lists" in job:
            answer = exhaust(job["port"], [[request.encode() for request in requests] for requests in job["lists"]])
        else:
            answer = flood(job["port"], job["request"].encode(), job["connections"], job["for"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
