"""Many streams of the feed in one process, over plain sockets: what came on each, in which order, and when.

Reads one job a line from standard input, as JSON, and answers each with a line. Meanwhile it takes what comes.

    {"port": 8000, "requests": ["GET ...", ...]}     opens a stream for each, and waits until nothing is missed
        -> {"opened": 500}
    {"events": 100, "within": 30}                    waits until each stream had so many since it was asked last
        -> {"counts": [100, ...], "disordered": 0, "arrivals": {"1": [12.3, ...], ...}}

`arrivals` are times of the monotonic clock, which is the same in all processes, by an event's number. `disordered` are
events that did not have the number after the one before.
"""

import json
import re
import select
import socket
import sys
import time
from collections import defaultdict
from typing import Any

HOST = "127.0.0.1"
CHUNK = 1 << 14  # more takes longer to make room for than to read
OPENING = 32  # streams that are opened at the same time
EVENT = re.compile(rb'^data: \{"id":"([0-9a-f]{12})', re.MULTILINE)
UP_TO_DATE = b"event: uptodate\n"


class Stream:
    """One connection, and what came on it."""

    def __init__(self, port: int, request: bytes):
        self.socket = socket.create_connection((HOST, port), timeout=60)
        self.socket.sendall(request)
        self.socket.settimeout(None)  # with a time a socket asks whether there is something, which is known
        self.rest = b""
        self.up_to_date = False
        self.last: int | None = None
        self.count = 0

    def take(self) -> list[int]:
        """The numbers of the events that are there."""
        part = self.socket.recv(CHUNK)
        if not part:
            raise ConnectionError("The server ended a stream.")
        text = self.rest + part if self.rest else part
        if not self.up_to_date:
            self.up_to_date = UP_TO_DATE in text
        end = text.rfind(b"\n\n") + 1
        self.rest = text[end:]
        return [int(number, 16) for number in EVENT.findall(text, 0, end)]


class Listeners:
    """All streams of the process."""

    def __init__(self) -> None:
        self.jobs = sys.stdin.fileno()
        self.poll = select.epoll()  # selectors would take longer than the rest
        self.poll.register(self.jobs, select.EPOLLIN)
        self.streams: dict[int, Stream] = {}
        self._forget()

    def _forget(self) -> None:
        self.arrivals: dict[int, list[float]] = defaultdict(list)
        self.disordered = 0
        for stream in self.streams.values():
            stream.count = 0

    def look(self, timeout: float) -> bool:
        """Take what is there; whether a job is."""
        job = False
        for place, _ in self.poll.poll(timeout, 256):
            if place == self.jobs:
                job = True
                continue
            stream = self.streams[place]
            found = stream.take()
            now = time.monotonic()
            for number in found:
                if stream.last is not None and number != stream.last + 1:
                    self.disordered += 1
                stream.last = number
                self.arrivals[number].append(now)
            stream.count += len(found)
        return job

    def open(self, port: int, requests: list[str]) -> dict[str, Any]:
        """A stream for each request."""
        for start in range(0, len(requests), OPENING):
            opened = [Stream(port, request.encode()) for request in requests[start : start + OPENING]]
            for stream in opened:
                self.streams[stream.socket.fileno()] = stream
                self.poll.register(stream.socket, select.EPOLLIN)
            deadline = time.monotonic() + 60
            while not all(stream.up_to_date for stream in opened):
                self.look(1)
                if time.monotonic() > deadline:
                    raise TimeoutError("The server does not open streams.")
        return {"opened": len(self.streams)}

    def collect(self, events: int, within: float) -> dict[str, Any]:
        """What came, once it is enough."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and any(stream.count < events for stream in self.streams.values()):
            self.look(0.1)
        counts = [stream.count for stream in self.streams.values()]
        answer = {"counts": counts, "disordered": self.disordered, "arrivals": self.arrivals}
        self._forget()
        return answer


def main() -> None:
    """Jobs in, answers out, until standard input ends."""
    listeners = Listeners()
    while True:
        if not listeners.look(-1):
            continue
        line = sys.stdin.buffer.readline()
        if not line:
            return
        job = json.loads(line)
        answer = listeners.open(**job) if "port" in job else listeners.collect(**job)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
