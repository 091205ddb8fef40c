"""The second fake of the vendor, by plain requests: it says what it should, and refuses what it should."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import httpx
import pytest

from tests.support.vendor import EXAMPLES, GRIDDATA, GRIDS, SCREEN, Canned, Dataspy, Example, Vendor, alerted

HEADERS = {"tenant": "T1", "organization": "RIO"}
STALE = "This record has been modified by another user"
CELLS = {"date": "pfs_f_startdate", "moment": "pfs_lastmodified", "number": "pfs_f_rental", "flag": "pfs_f_actualized"}
FIELDS = {"DATETIMEDATA": "PFS_F_STARTDATE", "NUMERICDATA": "PFS_F_RATE", "TEXTDATA": "PFA_ACT"}
NEW_YEAR_2026 = 1767225600000  # at +0000


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, headers=HEADERS) as client:
        yield client


def listing(position: Any = 1, count: Any = 50, **more: Any) -> dict[str, Any]:
    return {
        "GRID": {
            "GRID_NAME": "CUPFAG",
            "GRID_ID": "100541",
            "USER_FUNCTION_NAME": "CUPFAG",
            "NUMBER_OF_ROWS_FIRST_RETURNED": count,
            "CURSOR_POSITION": position,
            **more.pop("grid", {}),
        },
        "GRID_TYPE": {"TYPE": "LIST"},
        "REQUEST_TYPE": "LIST.HEAD_DATA.STORED",
        "ADDON_SORT": {"ALIAS_NAME": "pfs_id", "TYPE": "ASC"},
        **more,
    }


def read(client: httpx.Client, vendor: Vendor, *args: Any, **more: Any) -> Any:
    """ResultData of a page."""
    answer = client.post(vendor.url + vendor.path, json=listing(*args, **more))
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)["Result"]["ResultData"]


def rows(data: Any) -> list[dict[str, Any]]:
    """Rows by alias, of the shape that has FIELDS."""
    names = {field["aliasnum"]: field["name"] for field in data["GRID"]["FIELDS"]["FIELD"]}
    return [{names[cell["n"]]: cell["value"] for cell in row["D"]} for row in data["GRID"]["DATA"]["ROW"]]


def ids(data: Any) -> list[Any]:
    return [row["pfs_id"] for row in rows(data)]


def screen(action: str, recordid: Any = None, **fields: Any) -> dict[str, Any]:
    """A call of the screen: each field with its whole value, a text by itself."""
    values = {name: {"TEXTDATA": sent} if isinstance(sent, str) else sent for name, sent in fields.items()}
    body = {
        "USERDEFINEDSCREENNAME": "CUPFA2",
        "USERDEFINEDSERVICEACTION": action,
        "USERDEFINEDSCREENFIELDVALUELIST": {
            "USERDEFINEDSCREENFIELDVALUEPAIR": [
                {"USERDEFINEDSCREENFIELDNAME": name, "USERDEFINEDSCREENFIELDVALUE": value}
                for name, value in values.items()
            ]
        },
    }
    return body if recordid is None else body | {"recordid": recordid}


def call(client: httpx.Client, vendor: Vendor, action: str, recordid: Any = None, **fields: Any) -> httpx.Response:
    return client.post(vendor.url + SCREEN, json=screen(action, recordid, **fields))


def held(answer: httpx.Response) -> dict[str, Any]:
    """Values of a record by their fields."""
    assert answer.status_code == 200, answer.text
    pairs = answer.json()["Result"]["ResultData"]["USERDEFINEDSCREENFIELDVALUELIST"]["USERDEFINEDSCREENFIELDVALUEPAIR"]
    return {pair["USERDEFINEDSCREENFIELDNAME"]: pair["USERDEFINEDSCREENFIELDVALUE"] for pair in pairs}


def error(answer: httpx.Response) -> str:
    body = answer.json()
    assert body["Result"] is None
    return str(body["ErrorAlert"][0]["Message"])


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.kind for example in EXAMPLES])
def test_every_example_is_what_the_vendor_says_and_takes(client: httpx.Client, example: Example) -> None:
    kind, wire, value, settings = example
    with Vendor(**settings) as vendor:
        vendor.add("RIO", "A")
        key = {"PFS_ID": "A", "PFS_A_ORG": "RIO"}
        if kind == "filter":
            vendor.change("RIO", "A", pfs_lastmodified=value)
            for operator in ("=", ">="):
                wanted = {"ALIAS_NAME": "pfs_lastmodified", "OPERATOR": operator, "VALUE": wire}
                assert ids(read(client, vendor, ADDON_FILTER=wanted)) == ["A"]
        elif kind in CELLS:
            vendor.change("RIO", "A", **{CELLS[kind]: value})
            assert rows(read(client, vendor))[0][CELLS[kind]] == wire
        else:
            sent = key | {FIELDS[kind]: {kind: wire}}
            assert held(call(client, vendor, "UPDATE", 1, **sent))[FIELDS[kind]] == {kind: wire}
            assert value in vendor.lines["RIO", "A"].values()


def test_fields_come_with_headers_only(client: httpx.Client) -> None:
    with Vendor() as vendor:
        vendor.add("RIO", "A")
        assert len(read(client, vendor)["GRID"]["FIELDS"]["FIELD"]) == 24
        assert "FIELDS" not in read(client, vendor, REQUEST_TYPE="LIST.DATA_ONLY.STORED")["GRID"]


@pytest.mark.parametrize("shape", ["CELL", "DATAFIELD", "grids"])
def test_the_other_shapes_hold_the_same(client: httpx.Client, shape: Literal["CELL", "DATAFIELD", "grids"]) -> None:
    with Vendor(shape=shape) as vendor:
        vendor.add("RIO", "A", pfs_f_model="M")
        vendor.add("RIO", "B")
        data = read(client, vendor, 1, 1)
        if shape == "CELL":
            cells = data["GRID"]["DATA"]["ROW"][0]["CELL"]
            assert {"ALIAS_NAME": "pfs_f_model", "VALUE": "M"} in cells
        else:
            record = data["DATARECORD"][0] if shape == "grids" else data["GRID"]["DATA"]["DATARECORD"][0]
            assert [each["FIELDVALUE"] for each in record["DATAFIELD"] if each["FIELDNAME"] == "pfs_f_model"] == ["M"]
        if shape == "grids":
            assert vendor.path == GRIDS
            assert (data["NEXTCURSORPOSITION"], data["RECORDS"]) == (2, 2)
            assert read(client, vendor, 2, 1)["NEXTCURSORPOSITION"] == ""
            assert read(client, vendor, 3, 1)["DATARECORD"] is None
        else:
            assert data["GRID"]["METADATA"]["MORERECORDPRESENT"] == "+"


@pytest.mark.parametrize(("records", "announced"), [("null", None), ("total", 5), ("count", 2)])
def test_pages_begin_at_one_and_are_capped(
    client: httpx.Client, records: Literal["null", "total", "count"], announced: int | None
) -> None:
    with Vendor(records=records, most_rows=2) as vendor:
        for name in "ABCDE":
            vendor.add("RIO", name)
        assert ids(read(client, vendor, 0)) == ids(read(client, vendor, "1", "2")) == ["A", "B"]
        data = read(client, vendor, 3)
        assert ids(data) == ["C", "D"]
        assert data["GRID"]["METADATA"] == {
            "RECORDS": announced,
            "CLIENTROWS": 2,
            "MORERECORDPRESENT": "+",
            "CURRENTCURSORPOSITION": 4,
        }
        assert read(client, vendor, 5)["GRID"]["METADATA"]["MORERECORDPRESENT"] == "-"


def test_begins_lets_other_organizations_through_and_order_is_that_of_the_sort(client: httpx.Client) -> None:
    with Vendor() as vendor:
        for organization, name in (("RIO2", "B"), ("RIO", "A"), ("OSLO", "C")):
            vendor.add(organization, name)
        wanted = {"ALIAS_NAME": "pfs_a_org", "OPERATOR": "BEGINS", "VALUE": "RIO"}
        assert ids(read(client, vendor, ADDON_FILTER=wanted)) == ["A", "B"]
        assert ids(read(client, vendor, ADDON_SORT={"ALIAS_NAME": "pfs_id", "TYPE": "DESC"})) == ["C", "B", "A"]


def test_filters_are_joined_in_the_order_of_their_numbers(client: httpx.Client) -> None:
    def wanted(number: int, alias: str, value: str, **more: Any) -> dict[str, Any]:
        return {"ALIAS_NAME": alias, "OPERATOR": "=", "VALUE": value, "SEQNUM": number, **more}

    model_m = wanted(1, "pfs_f_model", "M", JOINER="AND")
    either = [
        wanted(2, "pfs_id", "A", JOINER="OR", LPAREN="true", RPAREN="false"),
        wanted(3, "pfs_id", "B", JOINER="AND", LPAREN="false", RPAREN="true"),
    ]
    with Vendor() as vendor:
        for name, model in (("A", "M"), ("B", "N"), ("C", "M")):
            vendor.add("RIO", name, pfs_f_model=model)
        bare = [{**each, "LPAREN": None, "RPAREN": None} for each in either]
        assert ids(read(client, vendor, MULTIADDON_FILTERS={"MADDON_FILTER": [*either, model_m]})) == ["A"]
        assert ids(read(client, vendor, MULTIADDON_FILTERS={"MADDON_FILTER": [model_m, *bare]})) == ["A", "B"]
        open_ended = {"MADDON_FILTER": [model_m, either[0]]}
        answer = client.post(vendor.url + GRIDDATA, json=listing(MULTIADDON_FILTERS=open_ended))
        assert "not valid" in error(answer)


def test_times_are_the_servers_own_in_cells_and_filters(client: httpx.Client) -> None:
    """01:30 comes twice when the clocks go back; the filter cannot tell one from the other."""
    first = datetime(2025, 11, 2, 5, 30, tzinfo=UTC)
    with Vendor(zone="America/New_York", dates="iso") as vendor:
        vendor.add("RIO", "A", pfs_lastmodified=first)
        vendor.add("RIO", "B", pfs_lastmodified=first + timedelta(hours=1))
        vendor.add("RIO", "C", pfs_lastmodified=first + timedelta(hours=2))
        wanted = {"ALIAS_NAME": "pfs_lastmodified", "OPERATOR": "=", "VALUE": "2025-11-02 01:30"}
        assert ids(read(client, vendor, ADDON_FILTER=wanted)) == ["A", "B"]
        later = wanted | {"OPERATOR": ">=", "VALUE": "2025-11-02 02:30"}
        assert [row["pfs_lastmodified"] for row in rows(read(client, vendor, ADDON_FILTER=later))] == [
            "2025-11-02 02:30:00"
        ]


@pytest.mark.parametrize(("localize", "cell"), [(True, "1234.56"), (False, "1.234,56")])
def test_the_locale_is_left_out_only_where_that_is_honoured(client: httpx.Client, localize: bool, cell: str) -> None:
    with Vendor(numbers="1.234,56", dates="DD/MM/YYYY", localize=localize) as vendor:
        vendor.add("RIO", "A", pfs_f_rental=Decimal("1234.56"), pfs_f_startdate=date(2024, 6, 13))
        row = rows(read(client, vendor, grid={"LOCALIZE_RESULT": "false"}))[0]
        assert (row["pfs_f_rental"], row["pfs_f_startdate"]) == (cell, "2024-06-13" if localize else "13/06/2024")


def test_a_dataspy_hides_rows_and_columns_by_default_too(client: httpx.Client) -> None:
    spies = {"1": Dataspy(), "2": Dataspy(lambda line: line["pfs_f_discontinued"] is True, ["pfs_f_model"])}
    with Vendor(dataspies=spies, dataspy="2") as vendor:
        vendor.add("RIO", "A")
        vendor.add("RIO", "B", pfs_f_discontinued=True)
        everything = read(client, vendor, DATASPY={"DATASPY_ID": 1})
        assert ids(everything) == ["A", "B"]
        assert "pfs_f_model" in rows(everything)[0]
        assert ids(read(client, vendor)) == ["A"]
        assert "pfs_f_model" not in rows(read(client, vendor))[0]
        answer = client.post(vendor.url + GRIDDATA, json=listing(DATASPY={"DATASPY_ID": "3"}))
        assert error(answer) == "3 is not a valid dataspy"


def test_a_record_is_got_added_changed_and_deleted(client: httpx.Client) -> None:
    key = {"PFS_ID": "A", "PFS_A_ORG": "RIO"}
    with Vendor(extra_fields={"PFS_UDFCHAR01": "text"}) as vendor:
        assert error(call(client, vendor, "GET", **key)) == "Record not found"
        added = call(client, vendor, "ADD", **key, PFS_F_SOURCE="Rental", PFA_ACT="false")
        assert added.json()["Result"]["ResultData"]["recordid"] == 1
        assert held(call(client, vendor, "GET", **key)) == held(added)
        assert held(added)["PFS_UDFCHAR01"] == {"TEXTDATA": "text"}
        assert held(added)["PFS_F_PRICE"] == {"NUMERICDATA": None}
        assert error(call(client, vendor, "ADD", **key)) == "Record already exists"
        changed = call(client, vendor, "UPDATE", 1, **key, PFS_F_SOURCE="Purchase")
        assert changed.json()["Result"]["ResultData"]["recordid"] == 2
        assert vendor.lines["RIO", "A"]["pfs_f_source"] == "Purchase"
        assert error(call(client, vendor, "DELETE", 1, **key)) == STALE
        assert call(client, vendor, "DELETE", "2", **key).status_code == 200
        assert not vendor.lines


def test_a_stale_recordid_is_refused_and_one_is_needed(client: httpx.Client) -> None:
    key = {"PFS_ID": "A", "PFS_A_ORG": "RIO"}
    with Vendor() as vendor:
        vendor.add("RIO", "A", pfs_f_model="M")
        vendor.change("RIO", "A", pfs_f_model="N")
        assert error(call(client, vendor, "UPDATE", 1, **key, PFS_F_MODEL="O")) == STALE
        assert "not a valid recordid" in error(call(client, vendor, "UPDATE", **key, PFS_F_MODEL="O"))
        assert vendor.lines["RIO", "A"]["pfs_f_model"] == "N"


@pytest.mark.parametrize(("put", "left"), [(True, (None, None)), (False, ("M", "text"))])
def test_an_update_blanks_what_is_not_sent_or_leaves_it(
    client: httpx.Client, put: bool, left: tuple[str | None, str | None]
) -> None:
    with Vendor(put=put, extra_fields={"PFS_UDFCHAR01": "text"}) as vendor:
        vendor.add("RIO", "A", pfs_f_model="M", pfs_p_projcode="P")
        call(client, vendor, "UPDATE", 1, PFS_ID="A", PFS_A_ORG="RIO", PFS_F_AREA="North")
        line = vendor.lines["RIO", "A"]
        assert (line["pfs_f_model"], line["PFS_UDFCHAR01"]) == left
        assert (line["pfs_f_area"], line["pfs_p_projcode"]) == ("North", "P")


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("PFS_P_PROJCODE", {"TEXTDATA": "P"}),
        ("PFS_F_MODEL", {"TEXTDATA": 1}),
        ("PFS_F_MODEL", {"TEXTDATA": "M", "NUMERICDATA": None}),
        ("PFS_F_SOURCE", {"TEXTDATA": "rental"}),
        ("PFA_ACT", {"TEXTDATA": "Y"}),
        ("PFA_ACT", {"TEXTDATA": True}),
        ("PFS_F_RATE", {"TEXTDATA": "1"}),
        ("PFS_F_RATE", {"NUMERICDATA": 3825.5}),
        ("PFS_F_RATE", {"NUMERICDATA": {"VALUE": 3825.5, "NUMOFDEC": 2, "SIGN": "+"}}),
        ("PFS_F_RATE", {"NUMERICDATA": {"VALUE": -1, "NUMOFDEC": 0, "SIGN": "+"}}),
        ("PFS_F_RATE", {"NUMERICDATA": {"VALUE": 1, "NUMOFDEC": 0, "SIGN": "-"}}),
        ("PFS_F_STARTDATE", {"TEXTDATA": "2026-01-15"}),
    ],
)
def test_another_form_is_refused(client: httpx.Client, field: str, sent: dict[str, Any]) -> None:
    with Vendor() as vendor:
        answer = call(client, vendor, "ADD", PFS_A_ORG="RIO", **{field: sent})
        assert answer.status_code == 400
        assert "is not a valid" in error(answer)
        assert not vendor.lines


@pytest.mark.parametrize(
    ("changed", "taken"),
    [
        ({}, True),
        ({"YEAR": NEW_YEAR_2026 + 18_000_000, "TIMEZONE": "-0500"}, True),
        ({"YEAR": NEW_YEAR_2026 + 1000}, False),
        ({"TIMEZONE": "-0500"}, False),
        ({"TIMEZONE": "UTC"}, False),
        ({"YEAR": 2026}, False),
        ({"MONTH": 2, "DAY": 30}, False),
        ({"HOUR": 5}, False),
    ],
)
def test_a_year_is_its_start_at_the_offset_of_the_zone(
    client: httpx.Client, changed: dict[str, Any], taken: bool
) -> None:
    time = {"HOUR": 0, "MINUTE": 0, "SECOND": 0, "SUBSECOND": 0, "TIMEZONE": "+0000"}
    sent = {"YEAR": NEW_YEAR_2026, "MONTH": 7, "DAY": 1, **time, **changed}
    with Vendor() as vendor:
        answer = call(client, vendor, "ADD", PFS_A_ORG="RIO", PFS_F_ENDDATE={"DATETIMEDATA": sent})
        assert [line["pfs_f_enddate"] for line in vendor.lines.values()] == [date(2026, 7, 1)] * taken
        assert answer.status_code == (200 if taken else 400)


def test_values_are_normalized_as_it_is_told(client: httpx.Client) -> None:
    defaults = {"pfs_f_purchase": Decimal(0)}
    rate = {"NUMERICDATA": {"VALUE": 10005, "NUMOFDEC": 3, "SIGN": "+"}}
    with Vendor(normalizing=["upper", "trim", "round"], defaults=defaults) as vendor:
        call(client, vendor, "ADD", PFS_ID="a", PFS_A_ORG="RIO", PFS_F_MODEL=" m ", PFS_F_RATE=rate, PFS_F_DOR="BEO")
        line = vendor.lines["RIO", "a"]
        assert (line["pfs_f_model"], line["pfs_f_dor"]) == ("M", "BEO")
        assert (line["pfs_f_rental"], line["pfs_f_purchase"]) == (Decimal("10.01"), Decimal(0))


def test_new_lines_get_ids_of_their_own_and_answers_can_be_short(client: httpx.Client) -> None:
    with Vendor(whole_answer=False, within=("UserDefinedScreenService",)) as vendor:
        vendor.add("RIO", "100001")
        answer = call(client, vendor, "ADD", PFS_A_ORG="RIO", PFS_F_MODEL="M").json()["Result"]["ResultData"]
        record = answer["UserDefinedScreenService"]
        pairs = record["USERDEFINEDSCREENFIELDVALUELIST"]["USERDEFINEDSCREENFIELDVALUEPAIR"]
        assert [pair["USERDEFINEDSCREENFIELDVALUE"]["TEXTDATA"] for pair in pairs] == ["100002", "RIO"]
        assert vendor.lines["RIO", "100002"]["pfs_f_model"] == "M"


def test_alerts_may_come_with_200_and_behind_a_byte_order_mark(client: httpx.Client) -> None:
    with Vendor(alert_status=200, bom=True) as vendor:
        answer = call(client, vendor, "GET", PFS_ID="A", PFS_A_ORG="RIO")
        assert answer.status_code == 200
        assert answer.content.startswith(b"\xef\xbb\xbf")
        assert json.loads(answer.content.decode("utf-8-sig"))["ErrorAlert"][0]["Message"] == "Record not found"


def test_it_lets_in_who_has_the_headers_and_the_password(client: httpx.Client) -> None:
    with Vendor(auth=("user", "password"), tenant="T1", organizations=["RIO"]) as vendor:
        url = vendor.url + GRIDDATA
        assert error(client.post(url, json=listing())) == "Authorization failed"
        user = ("user", "password")
        assert client.post(url, json=listing(), auth=user).status_code == 200
        for name in ("tenant", "organization"):
            answer = client.post(url, json=listing(), auth=user, headers={name: "other"})
            assert error(answer) == f"other is not a valid {name}"


def test_what_is_no_call_is_refused(client: httpx.Client) -> None:
    with Vendor() as vendor:
        assert client.post(vendor.url + GRIDS, json=listing()).status_code == 404
        assert client.get(vendor.url + GRIDDATA).content == b""
        assert "not a valid request" in error(client.post(vendor.url + GRIDDATA, content=b"{"))
        assert error(client.post(vendor.url + GRIDDATA, json=listing("x"))) == "x is not a valid CURSOR_POSITION"
        assert error(client.post(vendor.url + GRIDDATA, json=listing(FIELD=1))) == "FIELD is not a valid member"
        assert error(client.post(vendor.url + SCREEN, json=screen("UPSERT"))).startswith("UPSERT is not")
        assert not vendor.failures


def test_the_next_answer_can_be_given_and_one_can_be_lost(client: httpx.Client) -> None:
    with Vendor() as vendor:
        vendor.canned += [
            Canned(action="ADD", done=True, status=0),
            Canned(b"<html>", headers={"Content-Type": "text/html"}),
            alerted(question="Go on?", action="LIST"),
        ]
        page = client.post(vendor.url + GRIDDATA, json=listing())
        assert (page.text, page.headers["Content-Type"]) == ("<html>", "text/html")
        with pytest.raises(httpx.RemoteProtocolError):
            call(client, vendor, "ADD", PFS_ID="A", PFS_A_ORG="RIO")
        question = client.post(vendor.url + GRIDDATA, json=listing())
        assert (question.status_code, question.json()["ConfirmationAlert"][0]["Message"]) == (400, "Go on?")
        assert ids(read(client, vendor)) == ["A"]


def test_the_log_has_all_that_came(client: httpx.Client) -> None:
    with Vendor() as vendor:
        read(client, vendor)
        call(client, vendor, "GET", PFS_ID="A", PFS_A_ORG="RIO2")
        listed, got = vendor.log
        assert (listed.action, listed.organization, listed.key) == ("LIST", "RIO", None)
        assert dict(listed.sent)["GRID_TYPE"] == {"TYPE": "LIST"}
        sent = (("PFS_ID", {"TEXTDATA": "A"}), ("PFS_A_ORG", {"TEXTDATA": "RIO2"}))
        assert got == ("GET", "RIO2", "A", sent)


def test_each_change_is_marked_with_its_time(client: httpx.Client) -> None:
    minutes = itertools.count()
    start = datetime(2026, 1, 15, tzinfo=UTC)
    with Vendor(clock=lambda: start + timedelta(minutes=next(minutes))) as vendor:
        vendor.add("RIO", "A")
        call(client, vendor, "UPDATE", 1, PFS_ID="A", PFS_A_ORG="RIO")
        vendor.change("RIO", "A", pfs_f_model="M")
        assert rows(read(client, vendor))[0]["pfs_lastmodified"] == "1/15/2026 00:02"
