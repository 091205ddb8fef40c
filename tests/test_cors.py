"""Origins that may call from browsers: which ones are taken, and that each is exactly itself."""

import pytest

from app.base.errors import ConfigurationError
from app.base.settings import read_settings
from tests.support.world import SECRET, open_world, refused

TAKEN = [
    "https://plan.example",
    "https://plan.example:8443",
    "https://my_app.intern",
    "https://intranet",
    "https://192.0.2.7",
    "https://[2001:db8::7]:8443",
    "https://xn--bcher-kva.example",
    "http://localhost:3000",
    "http://127.0.0.1:5173",
    "http://[::1]:3000",
    "http://app.localhost",
]
# An origin, and a word of the sentence that says what is wrong with it.
REFUSED = {
    "*": "list each one",
    "**": "list each one",
    "https://*": "list each one",
    "https://*.example": "list each one",
    "*://plan.example": "list each one",
    "null": "everybody's",
    "https://": "no origin",
    "plan.example": "no scheme",
    "//plan.example": "no scheme",
    "://plan.example": "no scheme",
    "https:plan.example": "no scheme",
    "https://plan.example/": "a slash in the end",
    "https://plan.example/app": "more than scheme",
    "https://plan.example?x": "more than scheme",
    "https://plan.example#x": "more than scheme",
    "https://ann@plan.example": "a user",
    "https://ann:secret@plan.example": "a user",
    "https://Plan.example": "capitals",
    "HTTPS://plan.example": "capitals",
    "https://bücher.example": "ASCII",
    "https://plan.example:443": "leave out",
    "http://localhost:80": "leave out",
    "https://plan.example:": "no origin",
    "https://plan.example:0": "no origin",
    "https://plan.example:65536": "no port",
    "https://plan.example:x": "no origin",
    "https://.example": "no host",
    "https://plan..example": "no host",
    "https://plan.example.": "no host",
    "https://-plan.example": "no host",
    "https://192.0.2.999": "no host",
    "https://127.1": "no host",
    "https://[2001:DB8::7]": "capitals",
    "https://[2001:0db8::7]": "no host",
    "https://plan.(example|test)": "no origin",
    "https://.+": "no origin",
    "https://plan.example|https://evil.example": "more than scheme",
    "https://plan example": "no origin",
    "https://plan.example;https://b.example": "more than scheme",
    "ftp://plan.example": "neither https nor http",
    "file://plan": "neither https nor http",
    "http://plan.example": "no TLS",
    "http://10.0.0.7:3000": "no TLS",
    "http://localhost.evil.example": "no TLS",
    "http://127.0.0.1.evil.example": "no TLS",
}


def given(origins: str) -> dict[str, str]:
    return {"DATABASE_URL": "postgresql://a/b", "VANGUARD_SECRET": SECRET, "VANGUARD_CORS_ORIGIN": origins}


def test_origins_are_taken_as_browsers_write_them() -> None:
    assert read_settings(given(", ".join(TAKEN))).cors_origin == tuple(TAKEN)


@pytest.mark.parametrize("origin", REFUSED)
def test_what_is_no_origin_stops_the_start_and_says_why(origin: str) -> None:
    for origins in (origin, f"https://plan.example, {origin}"):
        with pytest.raises(ConfigurationError) as stopped:
            read_settings(given(origins))
        assert str(stopped.value).startswith(f"VANGUARD_CORS_ORIGIN: {origin!r} ")
        assert REFUSED[origin] in str(stopped.value)
        assert "An origin is https://plan.example" in str(stopped.value)


async def test_a_preflight_is_let_through_for_these_and_no_others(database_url: str) -> None:
    """A point in a host is a point, and nothing stands before or behind."""
    async with open_world(database_url, cors_origin=tuple(TAKEN)) as world:

        async def preflight(origin: str) -> None:
            headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            answer = await world.http.options("/api/auth/me", headers=headers)
            if origin in TAKEN:
                assert answer.status_code == 204, origin
                assert answer.headers["Access-Control-Allow-Origin"] == origin
                assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            else:
                refused(answer, 400, "MALFORMED_REQUEST")
                assert "Access-Control-Allow-Origin" not in answer.headers
            plain = await world.http.get("/api/auth/me", headers={"Origin": origin})
            assert plain.headers.get("Access-Control-Allow-Origin") == (origin if origin in TAKEN else None)

        for origin in TAKEN:
            await preflight(origin)
        for wrong in (
            *("https://planxexample", "https://plan.example.evil.example", "https://evilplan.example", "null"),
            *("http://plan.example", "https://plan.example:444", "https://PLAN.example", "https://plan.example\n"),
            *("https://plan.example https://evil.example", "http://localhost:30000", "http://xlocalhost:3000", "*"),
        ):
            if wrong.isprintable():
                await preflight(wrong)
