"""The file that says where each upstream is: what it may say, what is refused, and that it never tells a secret."""

import asyncio
import json
from datetime import time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.base.errors import ConfigurationError
from app.base.settings import Settings, read_settings
from app.contracts import PFA, Contract
from app.upstream import directory
from app.upstream.directory import Kind, TargetOptions, open_upstream, read_directory
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Alias, Auth, Grid, PemsConfig
from app.upstream.protocol import Upstream
from app.worker.start import read_targets
from tests.support.world import FLEET, SECRET
from tests.test_docs import section_of, text_of

PASSWORD = "pa55-w0rd-nobody-may-see"
ENTRY = {
    "organization": "demo",
    "dataset": "pfa",
    "kind": "pems",
    "url": "https://pems.example",
    "tenant": "DEMO",
    "role": "PLANNER",
    "organizations": ["RIO"],
    "auth": {"user": "vanguard", "passwordEnv": "PEMS_TEST_PASSWORD"},
}


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEMS_TEST_PASSWORD", PASSWORD)


def written(tmp_path: Path, *entries: Any) -> Path:
    path = tmp_path / "upstreams.json"
    path.write_text(json.dumps({"upstreams": entries}))
    return path


def opened(path: Path, contract: Contract = PFA) -> Upstream:
    (connection,) = read_directory(path)
    return open_upstream(connection, contract)


def entry(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in (ENTRY | members).items() if value is not ...}


def test_an_entry_says_whose_dataset_is_where_and_the_rest_has_defaults(tmp_path: Path) -> None:
    (connection,) = read_directory(written(tmp_path, ENTRY))

    assert connection.target == TargetOptions(
        organization="demo",
        dataset="pfa",
        kind="pems",
        pull_every=900,
        full_every=86400,
        overlap=600,
        deletion_share=0.1,
        concurrency=4,
        lease=120,
        longest_run=14400,
        full_at=None,
        full_at_zone="UTC",
        start_paused=False,
    )
    assert connection.config == PemsConfig(
        url="https://pems.example",
        tenant="DEMO",
        role="PLANNER",
        organizations=("RIO",),
        auth=Auth(user="vanguard", password_env="PEMS_TEST_PASSWORD"),
        requests_per_second=10,
        page_size=1000,
        timeout=30,
        connect_timeout=5,
        mapping={},
        grid=Grid(name="CUPFAG", id="100541", screen="CUPFA2"),
    )


def test_everything_can_be_said(tmp_path: Path) -> None:
    said = entry(
        pullEvery=60,
        fullEvery=3600,
        overlap=0,
        deletionShare=0.5,
        concurrency=8,
        longestRun=600,
        fullAt="02:30",
        fullAtZone="Europe/Berlin",
        startPaused=True,
        requestsPerSecond=0,
        pageSize=500,
        timeout=5.5,
        connectTimeout=1,
        insecure=True,
        url="http://pems.example:8080/eam",
        mapping={"model": {"read": "udf_model", "write": "UDF_MODEL"}, "equipment": None},
        grid={"name": "G", "id": "1", "userFunction": "F", "screen": "S", "dataPath": "/g", "screenPath": "/s"},
    )

    (connection,) = read_directory(written(tmp_path, said))

    assert connection.target.deletion_share == 0.5
    assert (connection.target.full_at, connection.target.zone) == ("02:30", ZoneInfo("Europe/Berlin"))
    assert connection.config.mapping == {"model": Alias(read="udf_model", write="UDF_MODEL"), "equipment": None}
    assert connection.config.grid.user_function == "F"
    assert isinstance(open_upstream(connection, PFA), Pems)


def test_what_is_said_of_the_schedule_reaches_the_worker(tmp_path: Path) -> None:
    said = entry(longestRun=600, fullAt="02:30", fullAtZone="Europe/Berlin", startPaused=True)
    settings = Settings(database_url="", secret=SECRET, upstreams=str(written(tmp_path, said)))
    (target,) = read_targets(settings)
    assert (target.longest_run, target.start_paused) == (timedelta(minutes=10), True)
    assert (target.full_at, target.full_at_zone) == (time(2, 30), ZoneInfo("Europe/Berlin"))


def test_no_entries_are_no_connections(tmp_path: Path) -> None:
    assert read_directory(written(tmp_path)) == ()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"organization": ...}, "organization"),
        ({"dataset": ""}, "dataset: "),
        ({"kind": ...}, "kind"),
        ({"kind": "sap"}, "kind is one of pems"),
        ({"pullEvery": 0}, "pullEvery: "),
        ({"pullEvery": "soon"}, "pullEvery: "),
        ({"deletionShare": 1.1}, "deletionShare: "),
        ({"concurrency": 0}, "concurrency: "),
        ({"longestRun": 0}, "longestRun: "),
        ({"fullAt": "2:30"}, "fullAt: "),
        ({"fullAt": "24:00"}, "fullAt: "),
        ({"fullAt": "02:30\n"}, "fullAt: "),
        ({"fullAt": "02:30", "fullAtZone": "Mars/Base"}, "fullAtZone: no zone is called 'Mars/Base' here"),
        ({"fullAtZone": "../../etc/passwd"}, "fullAtZone: "),
        ({"fullAtZone": ""}, "fullAtZone: "),
        ({"startPaused": "yes"}, "startPaused: "),
        ({"colour": "red"}, "colour"),
        ({"url": ...}, "url"),
        ({"url": "pems.example"}, "url begins with https://"),
        ({"url": "ftp://pems.example"}, "url begins with https://"),
        ({"url": "https://pems.example:x"}, "url is not an address"),
        ({"url": f"https://u:{PASSWORD}@pems.example"}, "url has neither user and password"),
        ({"url": f"https://pems.example/?key={PASSWORD}"}, "url has neither"),
        ({"url": "http://pems.example"}, "insecure"),
        ({"url": "http://127.0.0.1.example"}, "insecure"),
        ({"tenant": "a\nb"}, "tenant: "),
        ({"tenant": "ü"}, "tenant: "),
        ({"organizations": []}, "organizations: "),
        ({"organizations": ["a\r\nb"]}, "organizations"),
        ({"requestsPerSecond": -1}, "requestsPerSecond: "),
        ({"pageSize": 1}, "pageSize: "),
        ({"pageSize": 10_001}, "pageSize: "),
        ({"timeout": 0}, "timeout: "),
        ({"auth": {}}, "auth has user"),
        ({"auth": {"user": "u"}}, "auth has user"),
        ({"auth": {"passwordEnv": "P"}}, "auth has user"),
        ({"auth": {"user": "u", "apiKeyEnv": "P"}}, "auth has user"),
        ({"auth": {"user": "u", "passwordEnv": "P", "passwordFile": "f"}}, "auth has user"),
        ({"auth": {"apiKeyEnv": "P", "apiKeyFile": "f"}}, "auth has user"),
        ({"auth": {"user": "a:b", "passwordEnv": "P"}}, "no colon"),
        ({"auth": {"user": "u", "password": PASSWORD}}, "password"),
        ({"mapping": {"model": {"write": "X"}}}, "mapping"),
        ({"grid": {"dataPath": "griddata"}}, "grid.dataPath: "),
    ],
)
def test_what_is_wrong_is_said_with_file_entry_and_member(tmp_path: Path, members: dict[str, Any], said: str) -> None:
    path = written(tmp_path, entry(organization="first"), entry(**members))

    with pytest.raises(ConfigurationError) as refusal:
        read_directory(path)

    assert str(refusal.value).startswith(f"{path}, upstreams[1]: ")
    assert said in str(refusal.value)
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8443", "[::1]:80"])
def test_http_is_allowed_on_this_machine(tmp_path: Path, host: str) -> None:
    assert len(read_directory(written(tmp_path, entry(url=f"http://{host}")))) == 1


def test_the_same_dataset_cannot_have_two_upstreams(tmp_path: Path) -> None:
    path = written(tmp_path, ENTRY, entry(dataset="other"), entry(tenant="B"))

    with pytest.raises(ConfigurationError, match=r"upstreams\[2\]: the same .* as upstreams\[0\]"):
        read_directory(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"upstreams": 7}', b'{"upstreams": [], "x": 1}', b"\xff"])
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "upstreams.json"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"upstreams\.json: "):
        read_directory(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"VANGUARD_UPSTREAMS: .*nowhere\.json cannot be read: No such file"):
        read_directory(tmp_path / "nowhere.json")


# --- secrets


def test_a_secret_is_not_read_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEMS_TEST_PASSWORD")
    path = written(tmp_path, ENTRY)
    (connection,) = read_directory(path)

    with pytest.raises(ConfigurationError) as refusal:
        open_upstream(connection, PFA)

    assert str(refusal.value) == (f"{path}, upstreams[0]: auth: the variable PEMS_TEST_PASSWORD is empty or not there.")


@pytest.mark.parametrize("member", ["passwordFile", "apiKeyFile"])
def test_a_relative_secret_file_is_beside_the_file(tmp_path: Path, member: str) -> None:
    user = {"user": "vanguard"} if member == "passwordFile" else {}
    path = written(tmp_path, entry(auth={**user, member: "secrets/pems"}))
    with pytest.raises(ConfigurationError, match="the file secrets/pems cannot be read"):
        opened(path)

    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "pems").write_text(f"{PASSWORD}\n")

    assert isinstance(opened(path), Pems)


def test_an_absolute_secret_file_is_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(PASSWORD)
    (tmp_path / "elsewhere").mkdir()

    assert isinstance(opened(written(tmp_path / "elsewhere", entry(auth={"apiKeyFile": str(tmp_path / "key")}))), Pems)


@pytest.mark.parametrize("key", [f"{PASSWORD}\nmore", f"{PASSWORD}ü"])
def test_a_key_that_fits_no_header_is_refused_unseen(tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key)

    with pytest.raises(ConfigurationError, match="no key or token has") as refusal:
        opened(written(tmp_path, entry(auth={"apiKeyFile": "key"})))

    assert PASSWORD not in str(refusal.value)


def test_nothing_that_can_be_printed_holds_a_secret(tmp_path: Path) -> None:
    (connection,) = read_directory(written(tmp_path, ENTRY))
    upstream = open_upstream(connection, PFA)

    assert PASSWORD not in repr(connection) + str(connection) + repr(upstream) + str(upstream)
    asyncio.run(upstream.close())


# --- mapping


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"colour": {"read": "x"}}, "has no field colour"),
        ({"hasPlan": {"read": "x"}}, "has no field hasPlan"),
        ({"pemsVersion": None}, "pemsVersion has no names in PEMS"),
        ({"organization": None}, "organization has no names in PEMS"),
        ({"pfaId": {"read": "x"}}, "pfaId needs its name on the screen"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(tmp_path: Path, mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        opened(written(tmp_path, entry(mapping=mapping)))


def test_a_dataset_without_what_pems_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no names in PEMS"):
        opened(written(tmp_path, ENTRY), FLEET)


# --- other kinds


class ShelfConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shelf: int


def test_another_kind_is_one_entry_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_with: list[Any] = []

    def open_shelf(*given: Any) -> Any:
        opened_with.extend(given)

    monkeypatch.setitem(directory.KINDS, "shelf", Kind(ShelfConfig, open_shelf))
    path = written(tmp_path, {"organization": "demo", "dataset": "pfa", "kind": "shelf", "shelf": 3})

    opened(path)

    assert opened_with == [PFA, ShelfConfig(3), tmp_path]


# --- settings and documents


def test_the_setting_names_the_file() -> None:
    environment = {"DATABASE_URL": "postgresql://x/y", "VANGUARD_SECRET": SECRET}

    assert read_settings(environment).upstreams is None
    assert (
        read_settings({**environment, "VANGUARD_UPSTREAMS": "/etc/upstreams.json"}).upstreams == "/etc/upstreams.json"
    )


def test_the_document_explains_every_member() -> None:
    section = section_of("docs/settings.md", "## Upstreams")
    members = [*TargetOptions.__struct_encode_fields__, *PemsConfig.__struct_encode_fields__]
    members += [*Grid.__struct_encode_fields__, *Auth.__struct_encode_fields__, *Alias.__struct_encode_fields__]

    assert {member for member in members if f"`{member}`" not in section} == set()


def test_the_documents_example_can_be_used(tmp_path: Path) -> None:
    example = text_of("docs/settings.md").partition('```json\n{\n  "upstreams"')[2].partition("```")[0]
    path = tmp_path / "upstreams.json"
    path.write_text('{"upstreams"' + example)

    assert [connection.target.organization for connection in read_directory(path)] == ["demo"]
