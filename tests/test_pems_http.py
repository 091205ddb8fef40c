"""How PEMS is reached: what its refusals mean, which credentials it is shown, how often it is asked."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.contracts import PFA
from app.simulator import Fault, Simulator
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Alias, Auth, Grid
from app.upstream.pems.http import PemsClient
from app.upstream.protocol import (
    Failed,
    Held,
    OutcomeUnknown,
    Refused,
    Stale,
    Unavailable,
    UpstreamError,
    Write,
)
from tests.support.pems import (
    FIRST,
    NOW,
    config,
    connected,
    said,
    scripted,
    simulator,
)

NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": Decimal("1234.50"), "equipment": "CRN-1"}


@pytest.fixture
async def sim(anyio_backend: str) -> AsyncIterator[Simulator]:
    async with simulator(RIO=25, RIO2=5, LIMA=7) as found:
        yield found


@pytest.fixture
async def pems(sim: Simulator) -> AsyncIterator[Pems]:
    async with connected(sim.url) as found:
        yield found


# --- refusals


def calls(pems: Pems) -> dict[str, Callable[[], Any]]:
    held = Held(document={"organization": "RIO"}, token="1")
    return {
        "page": lambda: pems.page(since=None, cursor=None),
        "read": lambda: pems.read(FIRST),
        "find": lambda: pems.find_created(NEW),
        "hold": lambda: pems.hold(FIRST),
        "insert": lambda: pems.write(Write(op="insert", key=None, fields=NEW), None),
        "update": lambda: pems.write(Write(op="update", key=FIRST, fields={"model": "M"}), held),
        "delete": lambda: pems.write(Write(op="delete", key=FIRST, fields={}), held),
    }


READS, WRITES = ("page", "read", "find", "hold"), ("insert", "update", "delete")


# fault -> what a read raises, and a write.
TROUBLE: list[tuple[Fault, type[UpstreamError], type[UpstreamError]]] = [
    (Fault(kind="status", status=401), Unavailable, Unavailable),
    (Fault(kind="status", status=403), Unavailable, Unavailable),
    (Fault(kind="status", status=429), Unavailable, Unavailable),
    (Fault(kind="status", status=503), Unavailable, Unavailable),
    (Fault(kind="status", status=502), Unavailable, OutcomeUnknown),
    (Fault(kind="status", status=504), Unavailable, OutcomeUnknown),
    (Fault(kind="status", status=500), Failed, OutcomeUnknown),
    (Fault(kind="status", status=404), Failed, Refused),
    (Fault(kind="drop_before"), Unavailable, OutcomeUnknown),
    (Fault(kind="drop_after"), Unavailable, OutcomeUnknown),
    (Fault(kind="half"), Unavailable, OutcomeUnknown),
    (Fault(kind="broken_json"), Failed, OutcomeUnknown),
    (Fault(kind="html"), Failed, OutcomeUnknown),
    (Fault(kind="alert", message="The system is busy"), Failed, Refused),
    (Fault(kind="alert", message="Authorization failed"), Unavailable, Refused),
    (Fault(kind="alert", message="7 is not a valid class"), Failed, Refused),
    (Fault(kind="alert", message="This record has been modified by another user"), Failed, Stale),
]


@pytest.mark.parametrize(("fault", "of_a_read", "of_a_write"), TROUBLE, ids=lambda case: str(case)[:60])
async def test_trouble_is_told_apart(
    sim: Simulator, pems: Pems, fault: Fault, of_a_read: type[UpstreamError], of_a_write: type[UpstreamError]
) -> None:
    sim.fault(fault)

    for name, call in calls(pems).items():
        with pytest.raises(UpstreamError) as trouble:
            await call()
        assert type(trouble.value) is (of_a_read if name in READS else of_a_write), name
        assert fault.kind != "alert" or str(trouble.value) == f"Error: {fault.message}"


async def test_an_answer_that_takes_too_long(sim: Simulator) -> None:
    sim.fault(Fault(kind="latency", ms=600_000))

    # Long enough to connect in, on any machine.
    async with connected(sim.url, timeout=1.5) as pems:
        asked = calls(pems)
        troubles = await asyncio.gather(*(call() for call in asked.values()), return_exceptions=True)
    for name, trouble in zip(asked, troubles, strict=True):
        assert type(trouble) is (Unavailable if name in READS else OutcomeUnknown)
        assert "within 1.5 seconds" in str(trouble)


async def test_nobody_there(sim: Simulator) -> None:
    url = sim.url
    await sim.stop()

    async with connected(url) as pems:
        for call in calls(pems).values():
            with pytest.raises(Unavailable, match="cannot be reached"):
                await call()


@pytest.mark.parametrize("message", ["Record not found", "Error - record not found."])
async def test_a_record_that_is_not_there_is_no_trouble(sim: Simulator, pems: Pems, message: str) -> None:
    sim.fault(Fault(kind="alert", at="screen", message=message))

    assert await pems.hold(FIRST) is None


async def test_words_are_cut_to_a_length_that_can_be_shown(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="alert", message="x" * 5000))

    with pytest.raises(Refused) as refusal:
        await calls(pems)["update"]()

    assert len(str(refusal.value)) == 500


async def test_how_long_to_wait_is_handed_on(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="status", status=429, retry_after=7, count=1))

    with pytest.raises(Unavailable) as refusal:
        await pems.hold(FIRST)

    assert refusal.value.retry_after == 7


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_not_tried_again_at_once(sim: Simulator, pems: Pems, status: int) -> None:
    """Or the account would be locked."""
    sim.fault(Fault(kind="status", status=status, count=1))

    with pytest.raises(Unavailable, match=f"answered {status}: it refuses this account") as refusal:
        await pems.page(since=None, cursor=None)

    assert refusal.value.retry_after == 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sun, 01 Mar 2026 12:01:30 -0000", 90),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    answer = said(b"", "503 Service Unavailable", Retry_After=header)
    async with scripted(lambda _: answer) as script, connected(script.url) as pems:
        with pytest.raises(Unavailable) as refusal:
            await pems.hold(FIRST)

    assert refusal.value.retry_after == seconds


RECORD: dict[str, Any] = {"Result": {"ResultData": {"UserDefinedScreenService": {"recordid": 1}}}}


# an answer to a write -> what it raises, None where it was done.
ODD: list[tuple[Any, type[UpstreamError] | None]] = [
    (said({}), OutcomeUnknown),
    (said({"Result": None}), OutcomeUnknown),
    (said([]), OutcomeUnknown),
    (said(b"7"), OutcomeUnknown),
    (said(b"\xff"), OutcomeUnknown),
    (said({"Result": None, "ConfirmationAlert": [{"Name": "Sure", "Message": "Do it?"}]}), Refused),
    (said({"Result": {}, "ErrorAlert": [{"Message": "No"}]}), Refused),
    (said({"Result": {}, "ErrorAlert": {"Message": "No"}}), Refused),
    (said({"Result": {}, "ErrorAlert": "No"}), Refused),
    (said({"ErrorAlert": [{"Message": "Not so"}]}, "400 Bad Request"), Refused),
    (said({"ErrorAlert": [{"Message": "modified by another user"}]}, "409 Conflict"), Stale),
    (said(b"Not found", "404 Not Found"), Failed),
    (said(b"", "408 Request Timeout"), Unavailable),
    (said(b"x", "200 OK", Content_Encoding="gzip"), OutcomeUnknown),
    (said(RECORD), None),
    (said({"Result": {"ResultData": None}}), None),
]


@pytest.mark.parametrize(("answer", "raised"), ODD, ids=lambda case: str(case)[:60])
async def test_an_odd_answer_to_a_write_is_not_taken_for_another(
    answer: bytes, raised: type[UpstreamError] | None
) -> None:
    async with scripted(lambda _: answer) as script, connected(script.url) as pems:
        if raised is None:
            assert await calls(pems)["update"]() == FIRST
            with pytest.raises(OutcomeUnknown):  # a new row, and its id is not said
                await calls(pems)["insert"]()
            return
        with pytest.raises(UpstreamError) as trouble:
            await calls(pems)["update"]()
    assert type(trouble.value) is raised


@pytest.mark.parametrize("body", [b"7", b"{}", json.dumps(RECORD).encode(), b'{"Result": {"ResultData": null}}'])
async def test_an_odd_answer_to_a_hold_fails(body: bytes) -> None:
    async with scripted(lambda _: said(body)) as script, connected(script.url) as pems:
        with pytest.raises(Failed):
            await pems.hold(FIRST)


# --- credentials


async def test_a_key_opens_as_a_password_does(sim: Simulator, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("pems-simulator-key\n")

    pems = Pems(PFA, config(sim.url, auth=Auth(api_key_file="key")), folder=tmp_path)

    assert await pems.hold(FIRST) is not None
    await pems.close()


@pytest.mark.parametrize(
    "auth", [Auth(user="pems", password_env="WRONG"), Auth(api_key_env="WRONG")], ids=["user", "key"]
)
async def test_wrong_credentials_are_unavailable_and_never_told(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, auth: Auth
) -> None:
    secret = "wr0ng-and-secret"
    monkeypatch.setenv("WRONG", secret)
    caplog.set_level(0)
    faults = [None, Fault(kind="status", status=500), Fault(kind="drop_before"), Fault(kind="html")]

    async with connected(sim.url, auth=auth) as pems:
        for fault in faults:
            sim.clear_faults()
            if fault is not None:
                sim.fault(fault)
            for call in calls(pems).values():
                with pytest.raises(UpstreamError) as trouble:
                    await call()
                told = "".join(traceback.format_exception(trouble.value)) + repr(vars(trouble.value))
                assert secret not in told
                assert trouble.value.__cause__ is trouble.value.__context__ is None
        assert secret not in repr(pems) + repr(vars(pems)) + repr(pems._client._client.headers) + caplog.text


async def test_credentials_do_not_follow_a_redirect() -> None:
    async with scripted(lambda _: said({})) as elsewhere:
        moved = said(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/axis")
        async with scripted(lambda _: moved) as script, connected(script.url) as pems:
            with pytest.raises(Failed, match="answered 307"):
                await pems.page(since=None, cursor=None)

    assert elsewhere.asked == []


async def test_a_proxy_of_the_environment_is_not_used(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(lambda _: said({})) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with connected(sim.url) as pems:
            assert await pems.hold(FIRST) is not None

    assert proxy.asked == []


# --- requests


async def test_requests_carry_what_the_configuration_says_over_one_connection() -> None:
    grid = Grid(name="G", id="7", user_function="F", screen="S", data_path="/g", screen_path="/s")
    names = {"pfaId": Alias(read="my_id", write="MY_ID")}

    async with (
        scripted(lambda _: said({"ErrorAlert": [{"Message": "Record not found"}]})) as script,
        connected(f"{script.url}/eam/", organizations=("LIMA", "RIO"), grid=grid, mapping=names) as pems,
    ):
        assert await pems.hold(FIRST) is None
        with pytest.raises(Failed):
            await pems.page(since=NOW, cursor=None)

    assert script.connections == 1
    assert [(path, headers["organization"]) for path, headers, _ in script.asked] == [
        ("/eam/s", "LIMA"),
        ("/eam/s", "RIO"),
        ("/eam/g", "LIMA"),
    ]
    _, headers, body = script.asked[-1]
    assert (headers["tenant"], headers["role"]) == ("SIM", "PLANNER")
    assert headers["authorization"].startswith("Basic ")
    assert body["GRID"] == {
        "GRID_NAME": "G",
        "GRID_ID": "7",
        "USER_FUNCTION_NAME": "F",
        "NUMBER_OF_ROWS_FIRST_RETURNED": 10,
        "CURSOR_POSITION": 1,
    }
    assert body["ADDON_SORT"] == {"ALIAS_NAME": "my_id", "TYPE": "ASC"}
    joined = {"JOINER": "AND", "LPAREN": "false", "RPAREN": "false"}
    assert body["MULTIADDON_FILTERS"]["MADDON_FILTER"] == [
        {"ALIAS_NAME": "pfs_a_org", "OPERATOR": "BEGINS", "VALUE": "LIMA", "SEQNUM": 1, **joined},
        {"ALIAS_NAME": "pfs_lastmodified", "OPERATOR": ">=", "VALUE": "2026-03-01T12:00:00Z", "SEQNUM": 2, **joined},
    ]
    assert script.asked[0][2]["USERDEFINEDSCREENNAME"] == "S"


async def test_requests_are_spaced_so_that_no_second_has_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are sent: on the way one may be late and meet the next one."""
    loop, send = asyncio.get_running_loop(), PemsClient._send
    at: list[float] = []

    async def sent(self: PemsClient, *arguments: Any) -> Any:
        at.append(loop.time())
        return await send(self, *arguments)

    def answer(_: Any) -> bytes:
        return said({"ErrorAlert": [{"Message": "Record not found"}]})

    rate = 50
    monkeypatch.setattr(PemsClient, "_send", sent)
    async with scripted(answer) as script, connected(script.url, requests_per_second=rate) as pems:
        await asyncio.gather(*(pems.hold(FIRST) for _ in range(rate + 15)))

    assert len(at) == rate + 15
    assert at[-1] - at[0] >= (rate + 14) / rate - 0.1
    most = max(sum(start <= other < start + 1 for other in at) for start in at)
    assert most <= rate + 1
