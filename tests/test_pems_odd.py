"""The PEMS adapter where the vendor's answers are odd: nothing is lost, changed or asked for without an end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.contracts import PFA
from app.contracts.shape import FieldType
from app.simulator import Fault, Simulator
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Auth, Locale, PemsConfig, Token, Writes
from app.upstream.pems.forms import Forms
from app.upstream.pems.grid import GridPage
from app.upstream.pems.listing import Place, turn
from app.upstream.protocol import Failed, Write

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": Decimal("1234.50"), "equipment": "CRN-1"}


def config(url: str, **members: Any) -> PemsConfig:
    auth = Auth(user="pems", password_env="PEMS_TEST_PASSWORD")
    given: dict[str, Any] = {"tenant": "SIM", "organizations": ("RIO",), "auth": auth, "requests_per_second": 0}
    return PemsConfig(url=url, **(given | members))


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEMS_TEST_PASSWORD", "pems-simulator")


@pytest.fixture
async def sim(anyio_backend: str) -> AsyncIterator[Simulator]:
    async with Simulator({"RIO": []}, clock=lambda: NOW) as found:
        yield found


# -- new lines that cannot be read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [Token(read="pfs_f_model", write="PFS_F_MODEL"), None])
async def test_a_new_line_that_cannot_be_read_is_found_all_the_same(sim: Simulator, token: Token | None) -> None:
    """By its token for certain, by its texts perhaps: it is there, and must not be sent again."""
    mapping: dict[str, Any] = {} if token is None else {"model": None}
    pems = Pems(PFA, config(sim.url, token=token, mapping=mapping), clock=lambda: NOW)
    write = Write(op="insert", key=None, fields=NEW, token="VG-1")
    key = await pems.write(write, None)
    sim.fault(Fault(kind="rows", values={"pfs_f_rental": "much"}, ids=(key,)))
    found = await pems.find_created(write, NOW)
    assert (found.certain, [row.key for row in found.near]) == (((key,), []) if token else ((), [key]))
    sim.fault(Fault(kind="rows", values={"pfs_id": None}, ids=(key,)))
    if token:
        with pytest.raises(Failed, match="no id that can be read"):
            await pems.find_created(write, NOW)
    await pems.close()


# -- listings ----------------------------------------------------------------------------------------------------------


async def test_positions_that_rise_for_ever_over_the_same_lines_end(anyio_backend: str) -> None:
    """Given a server that names ever new positions, and sends the same lines for each, then the pull fails."""

    async def ask(position: int | str, size: int) -> GridPage:
        following = str(int(position) + 7)
        return GridPage(
            rows=(), broken=(), identities=["a", "b"], mark=None, total=None, more=True, following=following
        )

    with pytest.raises(Failed, match="no further line"):
        await _read(ask)


async def _read(ask: Callable[[int | str, int], Awaitable[GridPage]]) -> None:
    place: Place | None = Place(code="RIO")
    for _ in range(1000):
        if place is None:
            return
        place = (await turn(ask, place, 2)).following
    raise AssertionError("it does not end")


# -- the forms of numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["123456789012345678901234567890.5", "-0.12345678901234567891", "9" * 30, "0.10"])
@pytest.mark.parametrize("decimals", [0, 2, 20])
def test_a_number_keeps_all_of_its_digits(number: str, decimals: int) -> None:
    kind: FieldType = "number"
    forms = Forms(Writes(), Locale())
    shown = {"NUMERICDATA": {"VALUE": 1, "NUMOFDEC": decimals, "SIGN": "+"}}
    assert forms.read(kind, forms.write(kind, Decimal(number), shown)) == Decimal(number)


@pytest.mark.parametrize(
    ("sign", "shown", "written"),
    [
        (",", {"TEXTDATA": "12"}, {"TEXTDATA": "1234,567"}),
        (None, {"TEXTDATA": "1.012,5"}, {"TEXTDATA": "1234,567"}),
        (None, {"TEXTDATA": "1,012.5"}, {"TEXTDATA": "1234.567"}),
        (None, {"TEXTDATA": "12"}, {"TEXTDATA": "1234.567"}),
        (",", {"NUMERICDATA": "12,5"}, {"NUMERICDATA": "1234,567"}),
    ],
)
def test_a_number_as_a_text_has_the_decimal_sign_that_was_read(sign: Any, shown: Any, written: Any) -> None:
    kind: FieldType = "number"
    forms = Forms(Writes(), Locale(decimal_sign=sign))
    forms.read(kind, shown)
    assert forms.write(kind, Decimal("1234.567"), shown) == written
    assert forms.read(kind, written) == Decimal("1234.567")
