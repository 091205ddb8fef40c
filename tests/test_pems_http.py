"""How PEMS is reached: what its refusals mean, which credentials it is shown, how often it is asked."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.simulator import Fault, Simulator, Writing
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Alias, Auth, Grid
from app.upstream.pems.http import PemsClient
from app.upstream.protocol import (
    Failed,
    Held,
    OutcomeUnknown,
    Question,
    Refused,
    Stale,
    Unavailable,
    UpstreamError,
    Write,
)
from tests.support.pems import (
    FIRST,
    NOW,
    connected,
    said,
    scripted,
    simulator,
    update,
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
        "find": lambda: pems.find_created(Write(op="insert", key=None, fields=NEW), NOW),
        "hold": lambda: pems.hold(FIRST),
        "exists": lambda: pems.exists(FIRST),
        "insert": lambda: pems.write(Write(op="insert", key=None, fields=NEW), None),
        "update": lambda: pems.write(Write(op="update", key=FIRST, fields={"model": "M"}), held),
        "delete": lambda: pems.write(Write(op="delete", key=FIRST, fields={}), held),
    }


READS, WRITES = ("page", "read", "find", "hold", "exists"), ("insert", "update", "delete")
ACTIONS = dict(zip(WRITES, ("ADD", "UPDATE", "DELETE"), strict=True))


def told(**fault: Any) -> str:
    return "-".join(str(value) for value in fault.values())


# fault -> what a read raises, and a write.
TROUBLE: list[tuple[dict[str, Any], type[UpstreamError], type[UpstreamError]]] = [
    ({"kind": "status", "status": 401}, Unavailable, Unavailable),
    ({"kind": "status", "status": 403}, Unavailable, Unavailable),
    ({"kind": "status", "status": 408}, Unavailable, Unavailable),
    ({"kind": "status", "status": 429}, Unavailable, Unavailable),
    ({"kind": "status", "status": 503}, Unavailable, Unavailable),
    ({"kind": "status", "status": 502}, Unavailable, OutcomeUnknown),
    ({"kind": "status", "status": 504}, Unavailable, OutcomeUnknown),
    ({"kind": "status", "status": 500}, Failed, OutcomeUnknown),
    ({"kind": "status", "status": 404}, Failed, Failed),
    ({"kind": "status", "status": 413}, Failed, Failed),
    ({"kind": "drop_before"}, Unavailable, OutcomeUnknown),
    ({"kind": "drop_after"}, Unavailable, OutcomeUnknown),
    ({"kind": "half"}, Unavailable, OutcomeUnknown),
    ({"kind": "broken_json"}, Failed, OutcomeUnknown),
    ({"kind": "html"}, Unavailable, Unavailable),
    ({"kind": "login"}, Unavailable, Unavailable),
    ({"kind": "redirect"}, Unavailable, Unavailable),
]
READ_CASES = pytest.mark.parametrize(
    ("fault", "raised"),
    [(fault, of_a_read) for fault, of_a_read, _ in TROUBLE],
    ids=[told(**fault) for fault, _, _ in TROUBLE],
)
WRITE_CASES = pytest.mark.parametrize(
    ("fault", "raised"),
    [(fault, of_a_write) for fault, _, of_a_write in TROUBLE],
    ids=[told(**fault) for fault, _, _ in TROUBLE],
)


@READ_CASES
@pytest.mark.parametrize("name", READS)
async def test_trouble_of_a_read_is_told_apart(
    sim: Simulator, pems: Pems, name: str, fault: dict[str, Any], raised: type[UpstreamError]
) -> None:
    sim.fault(Fault(**fault))

    with pytest.raises(UpstreamError) as trouble:
        await calls(pems)[name]()

    assert type(trouble.value) is raised


@WRITE_CASES
@pytest.mark.parametrize("name", WRITES)
async def test_trouble_of_a_write_is_told_apart(
    sim: Simulator, pems: Pems, name: str, fault: dict[str, Any], raised: type[UpstreamError]
) -> None:
    sim.fault(Fault(action=ACTIONS[name], **fault))

    with pytest.raises(UpstreamError) as trouble:
        await calls(pems)[name]()

    assert type(trouble.value) is raised


# what PEMS says -> what a read raises, None where it means that nothing is there; and a write.
WORDS: dict[str, tuple[type[UpstreamError] | None, type[UpstreamError]]] = {
    "The system is busy": (Failed, Refused),
    "Authorization failed": (Unavailable, Refused),
    "7 is not a valid class": (Refused, Refused),
    "This record has been modified by another user": (Failed, Stale),
    "Record not found": (None, Stale),
    "Error - record not found.": (None, Stale),
    "Record already exists": (Failed, Stale),
}
STATUSES = pytest.mark.parametrize("status", [400, 200])


@STATUSES
@pytest.mark.parametrize("words", WORDS)
async def test_an_alert_is_read_the_same_with_either_status(
    sim: Simulator, pems: Pems, status: Any, words: str
) -> None:
    of_a_read, of_a_write = WORDS[words]
    sim.writing = Writing(alerts=status)
    for action in ACTIONS.values():
        sim.fault(Fault(kind="alert", message=words, action=action))

    for name in WRITES:
        with pytest.raises(UpstreamError) as trouble:
            await calls(pems)[name]()
        assert (type(trouble.value), str(trouble.value)) == (of_a_write, f"Error: {words}"), name

    sim.fault(Fault(kind="alert", message=words))
    for name in READS:
        if of_a_read is None and name in ("read", "hold", "exists"):
            assert not await calls(pems)[name]()
            continue
        with pytest.raises(UpstreamError) as trouble:
            await calls(pems)[name]()
        assert (type(trouble.value), str(trouble.value)) == (of_a_read or trouble.type, f"Error: {words}"), name
        assert isinstance(trouble.value, of_a_read or Failed)


@STATUSES
@pytest.mark.parametrize("name", WRITES)
async def test_a_question_is_asked_of_a_person_and_nothing_is_written(
    sim: Simulator, pems: Pems, status: Any, name: str
) -> None:
    sim.writing = Writing(alerts=status)
    sim.fault(Fault(kind="confirm", name="Sure", message="The line is in use. Go on?"))

    with pytest.raises(Question, match=r"^Sure: The line is in use\. Go on\?$"):
        await calls(pems)[name]()

    assert sim.counts().writes == {}


async def test_a_question_in_answer_to_a_read_is_told_as_one() -> None:
    asked = said({"Result": None, "ConfirmationAlert": [{"Message": "Go on?"}]}, "400 Bad Request")
    async with scripted(lambda _: asked) as script, connected(script.url) as pems:
        for name in READS:
            with pytest.raises(Question, match=r"Go on\?"):
                await calls(pems)[name]()


@pytest.mark.parametrize("kind", ["html", "login", "redirect"])
@pytest.mark.parametrize("name", [*READS, *WRITES])
async def test_a_page_in_the_place_of_pems_says_when_to_come_again(
    sim: Simulator, pems: Pems, name: str, kind: Any
) -> None:
    sim.fault(Fault(kind=kind))

    with pytest.raises(Unavailable, match="login page") as refusal:
        await calls(pems)[name]()

    assert refusal.value.retry_after == 120


PAGES: dict[str, bytes] = {
    "html": said(b"<html>Sign in</html>", Content_Type="text/html; charset=utf-8"),
    "xhtml": said(b"<html/>", Content_Type="application/xhtml+xml"),
    "said to be JSON": said(b" \r\n<!DOCTYPE html>", Content_Type="application/json"),
    "with a byte order mark": said(b"\xef\xbb\xbf<html>"),
    "400": said(b"<html>Bad request</html>", "400 Bad Request"),
    "301": said(b"", "301 Moved Permanently", Location="/login"),
    "302": said(b"", "302 Found", Location="https://login.example.com/"),
    "303": said(b"", "303 See Other", Location="/login"),
    "307": said(b"", "307 Temporary Redirect", Location="/login"),
}


@pytest.mark.parametrize("page", PAGES)
async def test_every_kind_of_page_is_an_outage(page: str) -> None:
    async with scripted(lambda _: PAGES[page]) as script, connected(script.url) as pems:
        for name in ("page", "hold", "update"):
            with pytest.raises(Unavailable) as refusal:
                await calls(pems)[name]()
            assert refusal.value.retry_after == 120


async def test_400_without_words_fails() -> None:
    async with scripted(lambda _: said({"Result": None}, "400 Bad Request")) as script, connected(script.url) as pems:
        for name in (*READS, "update"):
            with pytest.raises(Failed, match="400"):
                await calls(pems)[name]()


@pytest.mark.parametrize("alert", [[{"Message": "No"}], {"Message": "No"}, "No", ["No"]], ids=str)
async def test_words_are_found_in_whatever_shape_they_come(alert: Any) -> None:
    answer = said({"Result": {}, "ErrorAlert": alert})
    async with scripted(lambda _: answer) as script, connected(script.url) as pems:
        with pytest.raises(Refused, match=r"^No$"):
            await calls(pems)["update"]()
        with pytest.raises(Failed, match=r"^No$"):
            await calls(pems)["page"]()


async def test_an_answer_that_takes_too_long(sim: Simulator) -> None:
    # Long enough to connect in, on any machine.
    async with connected(sim.url, timeout=1.5) as pems:
        asked = calls(pems)
        for names, raised in ((WRITES, OutcomeUnknown), (READS, Unavailable)):
            actions = [ACTIONS.get(name) for name in names]
            for action in actions:
                sim.fault(Fault(kind="latency", ms=600_000, action=action))
            troubles = await asyncio.gather(*(asked[name]() for name in names), return_exceptions=True)
            for name, trouble in zip(names, troubles, strict=True):
                assert type(trouble) is raised, name
                assert "within 1.5 seconds" in str(trouble)


async def test_nobody_there(sim: Simulator) -> None:
    url = sim.url
    await sim.stop()

    async with connected(url) as pems:
        for call in calls(pems).values():
            with pytest.raises(Unavailable, match="cannot be reached"):
                await call()


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
        ("Sun, 01 Mar 2026 11:00:00 GMT", None),
        ("Sun, 01 Mar 2026 12:00:00 GMT", None),
        ("Sun, 01 Mar 99999999999999999999 12:01:30 GMT", None),
        ("0", None),
        ("00", None),
        ("0.5", None),
        ("1" * 50, 111_111_111),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date_to_come(header: str, seconds: float | None) -> None:
    answer = said(b"", "503 Service Unavailable", Retry_After=header)
    async with scripted(lambda _: answer) as script, connected(script.url) as pems:
        with pytest.raises(Unavailable) as refusal:
            await pems.hold(FIRST)

    assert refusal.value.retry_after == seconds


RECORD: dict[str, Any] = {"Result": {"ResultData": {"UserDefinedScreenService": {"recordid": 1}}}}


# an answer to a write -> what it raises, None where it was done.
ODD: dict[str, tuple[bytes, type[UpstreamError] | None]] = {
    "nothing": (said({}), OutcomeUnknown),
    "no result": (said({"Result": None}), OutcomeUnknown),
    "a list": (said([]), OutcomeUnknown),
    "a number": (said(b"7"), OutcomeUnknown),
    "no UTF-8": (said(b"\xff"), OutcomeUnknown),
    "an empty body": (said(b""), OutcomeUnknown),
    "nested": (said(b"[" * 100_000), OutcomeUnknown),
    "bad compression": (said(b"x", "200 OK", Content_Encoding="gzip"), OutcomeUnknown),
    "an error": (said({"Result": {}, "ErrorAlert": [{"Message": "No"}]}), Refused),
    "both alerts": (said({"ErrorAlert": [{"Message": "No"}], "ConfirmationAlert": [{"Message": "Sure?"}]}), Refused),
    "a question": (said({"Result": {}, "ConfirmationAlert": [{"Name": "Sure", "Message": "Do it?"}]}), Question),
    "400": (said({"ErrorAlert": [{"Message": "Not so"}]}, "400 Bad Request"), Refused),
    "409": (said({"ErrorAlert": [{"Message": "modified by another user"}]}, "409 Conflict"), Failed),
    "404": (said(b"", "404 Not Found"), Failed),
    "408": (said(b"", "408 Request Timeout"), Unavailable),
    "empty alerts": (said(RECORD | {"ErrorAlert": [], "ConfirmationAlert": []}), None),
    "no fields": (said(RECORD), None),
    "no data": (said({"Result": {"ResultData": None}}), None),
}
NOTHING = said({"Result": {"ResultData": {"GRID": {"METADATA": {"RECORDS": 0}}}}})


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_answer_to_a_write_is_not_taken_for_another(odd: str) -> None:
    answer, raised = ODD[odd]
    async with (
        scripted(lambda body: NOTHING if "GRID" in body else answer) as script,
        connected(script.url) as pems,
    ):
        if raised is None:
            assert await calls(pems)["update"]() == FIRST
            with pytest.raises(OutcomeUnknown):  # a new row, and its id is not said
                await calls(pems)["insert"]()
            return
        for name in WRITES:
            with pytest.raises(UpstreamError) as trouble:
                await calls(pems)[name]()
            assert type(trouble.value) is raised


@pytest.mark.parametrize("body", [b"7", b"{}", json.dumps(RECORD).encode(), b'{"Result": {"ResultData": null}}'])
async def test_an_odd_answer_to_a_hold_fails(body: bytes) -> None:
    async with scripted(lambda _: said(body)) as script, connected(script.url) as pems:
        with pytest.raises(Failed):
            await pems.hold(FIRST)


# --- credentials


@pytest.mark.parametrize("secret", ["key", "token"])
async def test_a_key_and_a_token_open_as_a_password_does(sim: Simulator, tmp_path: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(f"pems-simulator-{secret}\n")
    auth = Auth(api_key_file="secret") if secret == "key" else Auth(bearer_file="secret")

    async with connected(sim.url, folder=tmp_path, auth=auth) as pems:
        assert await pems.hold(FIRST) is not None


@pytest.mark.parametrize("secret", ["key", "token"])
async def test_a_secret_that_was_replaced_is_read_again(sim: Simulator, tmp_path: Path, secret: str) -> None:
    """Given one that PEMS refuses, when its file has another one by now, then the request is sent once more with it."""
    file = tmp_path / "secret"
    file.write_text("an older one")
    auth = Auth(api_key_file="secret") if secret == "key" else Auth(bearer_file="secret")
    async with connected(sim.url, folder=tmp_path, auth=auth) as pems:
        with pytest.raises(Unavailable, match="refuses this account"):
            await pems.hold(FIRST)
        file.write_text(f"pems-simulator-{secret}")

        assert await pems.hold(FIRST) is not None
        await update(pems, FIRST, model="M")

    assert sim.counts().writes[f"RIO/{FIRST}"]["UPDATE"] == 1


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_secret_that_is_still_the_same_is_not_tried_again(tmp_path: Path, status: str) -> None:
    """An account is locked after a few logins that are refused."""
    (tmp_path / "secret").write_text("the only one")
    refused = said({"ErrorAlert": [{"Message": "Authorization failed"}]}, status)
    async with (
        scripted(lambda _: refused) as script,
        connected(script.url, folder=tmp_path, auth=Auth(bearer_file="secret")) as pems,
    ):
        for emptied in (False, True):
            if emptied:
                (tmp_path / "secret").unlink()
            with pytest.raises(Unavailable) as refusal:
                await calls(pems)["update"]()
            assert refusal.value.retry_after == 300

    assert [headers["authorization"] for _, headers, _ in script.asked] == ["Bearer the only one"] * 2


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
            with pytest.raises(Unavailable, match="answered 307"):
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
        with pytest.raises(Failed, match="Record not found"):
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
        "LOCALIZE_RESULT": "false",
    }
    assert body["GRID_TYPE"] == {"TYPE": "LIST"}
    assert "DATASPY" not in body
    assert body["ADDON_SORT"] == {"ALIAS_NAME": "my_id", "TYPE": "ASC"}
    joined = {"JOINER": "AND", "LPAREN": "false", "RPAREN": "false"}
    assert body["MULTIADDON_FILTERS"]["MADDON_FILTER"] == [
        {"ALIAS_NAME": "pfs_a_org", "OPERATOR": "BEGINS", "VALUE": "LIMA", "SEQNUM": 1, **joined},
        {"ALIAS_NAME": "pfs_lastmodified", "OPERATOR": ">=", "VALUE": "2026-03-01 11:00", "SEQNUM": 2, **joined},
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
