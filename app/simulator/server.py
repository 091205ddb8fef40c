"""The simulator as a server: clients of PEMS, and whoever steers it, by the path that they ask for."""

from app.simulator import steering
from app.simulator.http import Answer, HttpServer, Request
from app.simulator.simulation import Simulation


class Simulator(Simulation):
    """A simulation that can be asked over HTTP."""

    url = ""
    _server: HttpServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve at a port, a free one without it; the address. Raises OSError."""
        self._server = HttpServer(self._handle)
        self.url = f"http://{host}:{await self._server.start(host, port)}"
        return self.url

    async def stop(self) -> None:
        """Stop at once: requests under way get no answer."""
        if self._server is not None:
            await self._server.stop()
        self.close()

    async def __aenter__(self) -> "Simulator":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _handle(self, request: Request) -> Answer:
        if request.path.startswith(steering.PREFIX):
            return steering.answer(self, request)
        return await self.answer(request)
