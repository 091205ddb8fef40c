"""Keeping a view at what the backend has: everything at first, then what changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import count

from vanguard_client.backoff import Backoff
from vanguard_client.errors import Refused, Unavailable
from vanguard_client.events import Connected, Disconnected, Event, Reloaded
from vanguard_client.pump import Pump
from vanguard_client.source import Change, Loaded, Message, Reset, Tracked, older
from vanguard_client.view import View

TRIES = 5
MANY = "too many changes"
FOLLOWED = (MANY, "expired", "slow")  # reasons for which positions still follow those of before
log = logging.getLogger("vanguard_client")


class Follower:
    """Reads rows for a view, one request at a time, so that no answer overtakes another.

    `read` is called with the ids that were read, once they are shown; None: everything was.
    """

    def __init__(
        self,
        source: Tracked,
        view: View,
        backoff: Backoff,
        tell: Callable[[Event], None],
        read: Callable[[Iterable[str] | None], Awaitable[None]],
    ) -> None:
        self._source, self._view, self._backoff, self._tell, self._read = source, view, backoff, tell, read
        self._reading = asyncio.Lock()
        self._drafted: dict[str, int] = {}
        self._passed = ""  # all that came up to here is shown

    async def load(self, *, quiet: bool = True, anew: bool = True) -> str:
        """Read everything; from which position changes are to be followed. Raises Unavailable.

        `quiet`: nobody is told what differs. `anew`: positions of before mean nothing any more.
        """
        async with self._reading:
            loaded = await self._source.load()
            if not anew and older(loaded.position, self._view.position):
                raise Unavailable("A server answers that lags behind.")
            self._drafted = loaded.drafted
            self._view.position = loaded.position
            await self._view.reset(loaded, quiet=quiet)
            await self._pass(loaded.position)
        await self._read(None)
        return loaded.position

    async def refresh(self, ids: Iterable[str], names: Mapping[str, str] | None = None) -> None:
        """Read rows again; raises Unavailable. `names`: temporary ids, and what they have become."""
        ids = list(ids)
        async with self._reading:
            await self._view.put(ids, await self._fetch(ids), names=names)
        await self._read(ids)

    async def _fetch(self, ids: list[str]) -> Loaded:
        """Never of a snapshot that is older than what was shown: a server that lags behind is asked again, but not for
        ever, since others wait. Perhaps it was put back, and everything has to be read anew.
        """
        for attempt in range(TRIES):
            loaded = await self._source.fetch(ids)
            if not older(loaded.position, self._view.position):
                self._view.see(loaded.position)
                return loaded
            await self._backoff.pause(attempt)
        raise Unavailable("A server answers that lags behind.")

    async def follow(self, since: str) -> None:
        """Take over what the backend tells, for as long as it does."""
        try:
            async with Pump(self._source.follow(since)) as pump:
                while messages := await pump.take():
                    await self._take(messages, pump)
        except Refused as error:
            self._tell(Disconnected(error, final=True))
        except Exception as error:
            log.exception("the feed is not followed any more")
            self._tell(Disconnected(Refused(f"{type(error).__name__}: {error}", code="BACKEND_FAILED"), final=True))

    async def _take(self, messages: list[Message], pump: Pump[Message]) -> None:
        """Messages that came at one time: rows are read once for all changes among them.

        What came before a reset is of no interest: everything is read anew.
        """
        resets = [index for index, each in enumerate(messages) if isinstance(each, Reset)]
        changes: list[Change] = []
        for message in messages[resets[-1] if resets else 0 :]:
            if isinstance(message, Change):
                changes.append(message)
                continue
            await self._until_reset(pump, self._take_changes, changes)
            changes = []
            if isinstance(message, Reset):
                await self._until_reset(pump, self._reload, message.reason)
            elif message.error is None:
                await self._pass(message.position)
                self._tell(Connected())
            else:
                self._tell(Disconnected(message.error))
        await self._until_reset(pump, self._take_changes, changes)

    async def _until_reset(self, pump: Pump[Message], call: Callable[..., Awaitable[None]], given: object) -> None:
        """Call until the backend can be reached. A reset that has come meanwhile ends it: what was to be read may not
        be there any more.
        """
        for attempt in count():
            try:
                return await call(given)
            except Unavailable as error:
                if pump.holds(Reset):
                    return None
                log.info("tried again later: %s", error)
                await self._backoff.pause(attempt, error.retry_after)

    async def _take_changes(self, changes: list[Change]) -> None:
        view = self._view
        if any(each.ids is None for each in changes):
            await self._reload(MANY)
            return
        names = {old: id for each in changes for old, id in each.keys.items() if old not in view.names}
        ids = [id for each in changes for id in each.ids or () if view.is_behind(id, each.position)]
        for each in changes:
            view.see(each.position)
        drafted = await self._source.drafted() if any(each.drafts for each in changes) else self._drafted
        ids += [id for id in {**self._drafted, **drafted} if self._drafted.get(id) != drafted.get(id)]
        ids = [id for id in dict.fromkeys([*names.values(), *ids]) if id not in names]
        if ids:
            await self.refresh(ids, names)
        self._drafted = drafted
        if changes:
            await self._pass(changes[-1].position)

    async def reached(self, position: str) -> None:
        """Wait until all that came up to a position is shown."""
        async with self._view.moved:
            await self._view.moved.wait_for(lambda: self._passed and not older(self._passed, position))

    async def _pass(self, position: str) -> None:
        self._passed = position or self._passed
        async with self._view.moved:
            self._view.moved.notify_all()

    async def _reload(self, reason: str) -> None:
        await self.load(quiet=False, anew=reason not in FOLLOWED)
        self._tell(Reloaded(reason))
