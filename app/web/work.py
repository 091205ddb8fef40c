"""A request at work: whose it is, how long a statement of it may take, and whether somebody still waits for it.

A read whose client has left ends, its statement too, and is logged with the status 499. What is quick pays nothing for
that: only after a moment somebody listens. A write goes on: it is not known how far it was.
"""

import asyncio
from typing import Any

from litestar.types import Receive, Scope

from app.base.places import Holder, holder
from app.web.budgets import Body, Incoming, Intake
from app.web.runtime import VanguardRequest

LEFT = 499  # nginx's status for a client that closed its connection; nobody receives it
LISTEN_AFTER = 0.05  # seconds

# What the `opt` of a route says that changes nothing, though it is no GET.
READS = {"reads": True}


def begin_work(request: VanguardRequest) -> None:
    """From here on connections are the user's, and the body may come; called by the gate once it knows who that is.

    Raises PayloadTooLarge for a body that announces itself as too large.
    """
    opt, attendance = request.route_handler.opt, request.scope["state"]["attendance"]
    reads = request.method == "GET" or opt.get("reads")
    if user := request.scope.get("user"):
        timeout = request.runtime.settings.read_timeout if reads else None
        holder.set(Holder(user.subject, request.path_params.get("org"), timeout))
    if request.method != "GET":
        name = user.subject if user else ""
        attendance.intake = Intake(request.runtime.bodies, opt.get("body", Body.SMALL), name, request.scope)
    if reads:
        attendance.begin(has_body=request.method != "GET")


def take_time(scope: Scope) -> None:
    """This answer takes its time, within bounds of its own, and looks itself whether its client is there."""
    scope["state"]["attendance"].end()
    if (whose := holder.get()) is not None:
        holder.set(Holder(whose.user, whose.organization))


class Attendance:
    """What comes from the client of a request: its body by way of the `intake`, and whether it still waits: `left` once
    it has gone, and the request's task is cancelled.
    """

    def __init__(self, receive: Receive):
        self.left = False
        self.intake: Intake | None = None
        self._whole = False  # the body is there: what comes now is that the client leaves, which has no deadline
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None

    async def receive(self) -> Incoming:
        """What the application receives; the body has to be there before anybody listens for what follows it."""
        if self._whole:
            return await self._receive()
        message = await (self._receive() if self.intake is None else self.intake.receive(self._receive))
        self._whole = not message.get("more_body")
        if self._task is not None and self._timer is None and not message.get("more_body"):
            self._start()
        return message

    def begin(self, *, has_body: bool) -> None:
        """Listen from now on, or from the end of the body on, until `end`."""
        self._task = asyncio.current_task()
        if not has_body:
            self._start()

    def end(self) -> None:
        """The answer has begun."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()

    def close(self) -> None:
        """The request is over: what its task does afterwards is nobody's."""
        self.end()
        holder.set(None)
        if self.intake is not None:
            self.intake.release()

    def _start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LISTEN_AFTER, self._listen)

    def _listen(self) -> None:
        self._listening = asyncio.create_task(self._until_left())

    async def _until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self.left = True
            self._task.cancel()


def attend(scope: Scope, receive: Receive) -> Attendance:
    """The attendance of a request, where the gate finds it; whose request it is, is not known yet."""
    holder.set(None)
    attendance = scope["state"]["attendance"] = Attendance(receive)
    return attendance
