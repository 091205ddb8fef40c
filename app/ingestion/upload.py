"""Uploads: a body of CSV or NDJSON, of any size up to a limit of its own, put down on disk while it comes in.

No connection of the pool is held for a slow client, and one that leaves has left nothing.
"""

import hashlib
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

from app.base.errors import MalformedRequest, UploadsBusy
from app.records.records import Raw, read_csv, read_ndjson
from app.web.bodies import GZIP
from app.web.headers import listed
from app.web.problems import PayloadTooLarge, UnsupportedMediaType
from app.web.runtime import Runtime, VanguardRequest

PIECE = 256 * 1024  # bytes
RETRY_AFTER = 30  # seconds
CSV, NDJSON = "text/csv", "application/x-ndjson"
TAKEN = {"Accept": f"application/json, {CSV}, {NDJSON}"}


class Upload(NamedTuple):
    """A body on disk; `textual`: all its values are texts, as those of CSV are; `delimiter` is None where the header
    tells it.
    """

    file: BinaryIO
    textual: bool
    delimiter: str | None

    def raws(self) -> Iterator[Raw]:
        """The records, from the first one on; raises MalformedRequest for what cannot be read at all."""
        self.file.seek(0)
        chunks = iter(lambda: self.file.read(PIECE), b"")
        return read_csv(chunks, delimiter=self.delimiter) if self.textual else read_ndjson(chunks)


def media_type(request: VanguardRequest) -> str:
    """What the body is called, without parameters; JSON where it is called nothing."""
    return request.content_type[0].lower() or "application/json"


@asynccontextmanager
async def received(request: VanguardRequest, delimiter: str | None) -> AsyncIterator[Upload]:
    """The body of CSV or NDJSON, unpacked, for the time of the block.

    Raises UnsupportedMediaType, PayloadTooLarge, MalformedRequest, TooManyRequests and UploadsBusy.
    """
    kind = media_type(request)
    if kind not in (CSV, NDJSON):
        raise UnsupportedMediaType(f"Records come as JSON, {CSV} or {NDJSON}, not as {kind[:80]}.", taken=TAKEN)
    most = request.runtime.settings.max_upload_bytes
    digest = hashlib.sha256()
    request.intake.put_down()
    with TemporaryFile() as file:
        async with _place(request.runtime):
            size = 0
            async for piece in _unpacked(request, most):
                size += len(piece)
                if size > most:
                    raise too_large(most)
                digest.update(piece)
                file.write(piece)
        await request.is_here()
        request.digest = digest.digest()
        yield Upload(file, kind == CSV, delimiter)


def _place(runtime: Runtime) -> AbstractAsyncContextManager[None]:
    most = runtime.settings.max_uploads
    detail = f"{most} uploads are coming in, as many as may be (VANGUARD_MAX_UPLOADS). Try again later."
    return runtime.uploads.held(UploadsBusy(detail, retry_after=RETRY_AFTER))


def too_large(most: int) -> PayloadTooLarge:
    """The refusal of an upload beyond the limit."""
    return PayloadTooLarge(f"An upload has at most {most:,} bytes (VANGUARD_MAX_UPLOAD_BYTES). Send it in parts.")


async def _unpacked(request: VanguardRequest, most: int) -> AsyncIterator[bytes]:
    codings = [each.strip().lower() for each in (listed(request.scope, b"content-encoding") or "").split(",")]
    codings = [each for each in codings if each not in ("", "identity")]
    if not codings:
        async for piece in request.stream():
            yield piece
        return
    if codings not in (["gzip"], ["x-gzip"]):
        detail = f"A body is sent as it is, or with Content-Encoding: gzip, not {', '.join(codings)[:80]}."
        raise UnsupportedMediaType(detail, taken={"Accept-Encoding": "gzip"})
    inflater = zlib.decompressobj(GZIP)
    size = 0
    async for packed in request.stream():
        rest = packed
        while rest:
            try:
                piece = inflater.decompress(rest, PIECE)
            except zlib.error:
                raise MalformedRequest("The body is not gzip, though Content-Encoding says so.") from None
            size += len(piece)
            if size > most:
                raise too_large(most)
            yield piece
            rest = inflater.unconsumed_tail
            if inflater.unused_data:
                raise MalformedRequest("The gzip of the body has ended before its last byte; send one stream.")
    if not inflater.eof:
        raise MalformedRequest("The gzip of the body breaks off before its end.")
