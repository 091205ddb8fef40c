"""Bad input over HTTP: every refusal is a problem with a stable code and the culprit's name, and saves nothing."""

import asyncio
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import jwt
import pytest

from app.base import exact_json
from app.base.settings import Settings
from app.web.auth import Account, Role
from tests.conftest import new_database
from tests.support.world import SECRET, User, World, line, open_world, refused

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

# Words that stand in rows and drafts, and in no answer to an attack.
SECRETS = ("SECRET-OF-THE-MIRROR", "SECRET-OF-BOB", "SECRET-OF-THE-RIVAL")
# What an answer would hold if it told how it was made.
INSIDES = ("Traceback", "asyncpg", "syntax error", "SELECT m.", "organization_id =", "public.", "site-packages")
ACME = "/api/v1/orgs/acme"
ROWS = f"{ACME}/datasets/pfa/rows"
LONGEST = int(Settings(database_url="", secret="s" * 32).max_target_bytes)
DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


class Attack(NamedTuple):
    """A request and how it is refused; `culprit` is what the answer has to name."""

    request: str
    body: bytes | None
    status: int
    code: str
    culprit: str | None = None
    headers: Mapping[str, str | bytes] = {}

    @property
    def label(self) -> str:
        headers = " ".join(f"{name}={value!r}" for name, value in self.headers.items())
        body = f" {self.body[:60].decode('utf-8', 'replace')!r}" if self.body is not None else ""
        return f"{self.request[:80]}{body}{f' {headers[:60]}' if headers else ''}"


def malformed(request: str, body: bytes, culprit: str | None = None) -> Attack:
    return Attack(request, body, 400, "MALFORMED_REQUEST", culprit)


def invalid(request: str, body: bytes, culprit: str | None = None) -> Attack:
    return Attack(request, body, 422, "VALIDATION_FAILED", culprit)


def unfit(query: str, culprit: str | None = None, path: str = "rows") -> Attack:
    return Attack(f"GET {path}?{query}", None, 400, "INVALID_FILTER", culprit)


def draft(member: bytes) -> bytes:
    """A batch of one draft of A with these members."""
    return b'{"modifications":[{"id":"A",%b}]}' % member


def value(field: str, text: bytes) -> bytes:
    """A batch that drafts this JSON text as the value of A's field."""
    return draft(b'"delta":{"%b":%b}' % (field.encode(), text))


def code_of(header: str | bytes) -> str:
    """Of a request with this authorization: a token that is none, or none at all."""
    sent = header.encode() if isinstance(header, str) else header
    return "TOKEN_INVALID" if sent.startswith(b"Bearer ") else "TOKEN_MISSING"


NOT_JSON = [
    malformed(request, body)
    for request in (
        "POST drafts",
        "POST commit",
        "POST discard",
        "PATCH rows/A",
        "POST /api/pfa/acme/draft",
        "POST /api/pfa/acme/commit",
        "POST /api/pfa/acme/discard",
        "POST /api/auth/login",
        f"PUT {ACME}/members/ann",
        f"POST {ACME}/invitations",
    )
    for body in (
        b"",
        b"{",
        b"null",
        b"1",
        b"[]",
        b'"x"',
        b"\xff",
        b"a=1&b=2",
        b"<a/>",
        b"[" * 2000 + b"]" * 2000,  # as deep as a login has room for
        b'{"a":NaN}',
        b"\0",
        b'\xef\xbb\xbf{"all":true}',
        '{"all":true}'.encode("utf-16"),
    )
]

SHAPES = [
    malformed("POST drafts", b'{"modifications":[{"id":"A"}],"force":true}', "force"),
    malformed("POST drafts", draft(b'"where":"1=1"'), "modifications[0].where"),
    malformed("POST drafts", b'{"modifications":[{"delta":{}}]}', "modifications[0].id"),
    malformed("POST drafts", b"{}", "modifications"),
    malformed("POST drafts", b'{"modifications":[]}', "modifications"),
    malformed("POST drafts", b'{"modifications":{}}', "modifications"),
    malformed("POST drafts", b'{"modifications":[{"id":1}]}', "modifications[0].id"),
    malformed("POST drafts", draft(b'"op":"drop"'), "modifications[0].op"),
    malformed("POST drafts", draft(b'"delta":[]'), "modifications[0].delta"),
    malformed("POST drafts", draft(b'"delta":null'), "modifications[0].delta"),
    malformed("POST drafts", draft(b'"unset":"model"'), "modifications[0].unset"),
    malformed("POST drafts", draft(b'"expectedVersion":1.5'), "modifications[0].expectedVersion"),
    malformed("POST drafts", draft(b'"expectedVersion":"1"'), "modifications[0].expectedVersion"),
    malformed("POST drafts", draft(b'"expectedVersion":-1'), "modifications[0].expectedVersion"),
    malformed("POST drafts", draft(b'"expectedVersion":9223372036854775808'), "modifications[0].expectedVersion"),
    malformed("POST drafts", draft(b'"expectedVersion":' + b"9" * 400), "modifications[0].expectedVersion"),
    malformed("POST drafts", draft(b'"changeReason":"%b"' % (b"x" * 2001)), "modifications[0].changeReason"),
    malformed("POST drafts", draft(b'"changeReason":%b' % DEEP), "modifications[0].changeReason"),
    malformed("POST drafts", b'{"modifications":[%b]}' % b",".join([b'{"id":"A"}'] * 10_001), "modifications"),
    malformed("POST drafts", b'{"sessionId":"","modifications":[{"id":"A"}]}', "sessionId"),
    malformed("POST drafts", b'{"sessionId":"\\u0000","modifications":[{"id":"A","delta":{"model":"x"}}]}'),
    malformed("POST drafts", b'{"atomic":"yes","modifications":[{"id":"A"}]}', "atomic"),
    malformed("POST drafts", b'{"%b":1}' % (b"x" * 1_000_000)),
    malformed("POST drafts", draft(b'"op":"%b"' % (b"x" * 1_000_000)), "modifications[0].op"),
    Attack("POST commit", b"{}", 400, "NOTHING_SELECTED"),
    Attack("POST commit", b'{"all":true,"ids":["A"]}', 400, "NOTHING_SELECTED"),
    Attack("POST discard", b"{}", 400, "NOTHING_SELECTED"),
    Attack("POST discard", b'{"all":true,"sessionId":"s"}', 400, "NOTHING_SELECTED"),
    malformed("POST commit", b'{"all":false}', "all"),
    malformed("POST commit", b'{"all":1}', "all"),
    malformed("POST commit", b'{"all":true,"force":true}', "force"),
    malformed("POST commit", b'{"ids":[]}', "ids"),
    malformed("POST commit", b'{"ids":"A"}', "ids"),
    malformed("POST commit", b'{"ids":[1]}', "ids[0]"),
    malformed("POST commit", b'{"ids":[%b]}' % b",".join([b'"A"'] * 50_001), "ids"),
    malformed("POST commit", b'{"ids":["\\u0000"]}'),
    malformed("POST commit", b'{"sessionId":"\\u0000"}'),
    malformed("POST commit", b'{"all":true,"expectedVersions":{"A":"1"}}', "expectedVersions[...]"),
    malformed("POST commit", b'{"all":true,"changeReason":"%b"}' % (b"x" * 2001), "changeReason"),
    malformed("POST commit", b'{"all":true,"dryRun":"no"}', "dryRun"),
    malformed(
        "POST commit", b'{"all":true,"resolutions":[{"id":"A","field":"model","use":"ours"}]}', "resolutions[0].use"
    ),
    malformed("POST commit", b'{"all":true,"resolutions":[{"id":"A","use":"mine"}]}', "resolutions[0].field"),
    malformed(
        "POST commit", b'{"all":true,"resolutions":[{"id":"A","field":"model","use":"value","value":%b}]}' % DEEP
    ),
    malformed("POST commit", b'{"all":true,"changeReason":"\\u0000"}'),
    Attack("POST commit", b'{"ids":["nobody\'s"]}', 404, "NO_DRAFTS"),
    Attack("POST commit", b'{"ids":["A\' OR TRUE --"]}', 404, "NO_DRAFTS"),
    Attack("POST commit", b'{"sessionId":"\' OR TRUE --"}', 404, "NO_DRAFTS"),
    Attack("POST commit", b'{"all":true,"expectedVersions":{"D":%b}}' % (b"9" * 400), 409, "VERSION_CONFLICT", "D"),
    Attack("POST commit", b'{"all":true,"expectedVersions":{"\\u0000":1}}', 409, "VERSION_CONFLICT", "\0"),
    malformed("POST discard", b'{"all":true,"fields":["model","no such"]}'),
    malformed("POST discard", b'{"all":true,"fields":[]}', "fields"),
    malformed("POST discard", b'{"ids":["\\u0000"]}'),
    Attack("POST /api/pfa/acme/commit", b"{}", 400, "NOTHING_SELECTED"),
    Attack("POST /api/pfa/acme/discard", b'{"discardAll":true,"pfaIds":["A"]}', 400, "NOTHING_SELECTED"),
    malformed("POST /api/pfa/acme/commit", b'{"all":true}', "all"),
    malformed("POST /api/pfa/acme/draft", b'{"modifications":[{"pfaId":"A"}]}', "modifications[0].delta"),
    malformed(
        "POST /api/pfa/acme/draft", b'{"modifications":[{"pfaId":"A","delta":{},"op":"delete"}]}', "modifications[0].op"
    ),
    malformed("POST /api/auth/login", b'{"email":"a@b"}', "password"),
    malformed("POST /api/auth/login", b'{"email":"a@b","password":null}', "password"),
    malformed("POST /api/auth/login", b'{"email":"a@b","password":"x","role":"ADMIN"}', "role"),
    malformed("POST /api/auth/login", b'{"email":"%b","password":"x"}' % (b"x" * 300), "email"),
    malformed("POST /api/auth/login", b'{"email":"a@b","password":"%b"}' % (b"x" * 2000), "password"),
    malformed("POST /api/auth/login", b'{"email":"\\u0000","password":"x"}'),
    Attack("POST /api/auth/login", b'{"email":"\' OR TRUE --","password":"x"}', 401, "INVALID_CREDENTIALS"),
    malformed(f"PUT {ACME}/members/ann", b'{"role":"KING"}', "role"),
    malformed(f"POST {ACME}/invitations", b'{"email":"n@acme.example","role":"KING"}', "role"),
    malformed(f"POST {ACME}/invitations", b'{"email":"n@acme.example","role":"VIEWER","operator":true}', "operator"),
    malformed(f"POST {ACME}/invitations", b'{"email":["n@acme.example"],"role":"VIEWER"}', "email"),
    Attack(f"DELETE {ACME}/invitations/'--", None, 404, "INVITATION_NOT_FOUND"),
    Attack(f"DELETE {ACME}/invitations/%00", None, 404, "INVITATION_NOT_FOUND"),
    Attack("POST /api/auth/invitations/%00/accept", b"{}", 404, "INVITATION_NOT_FOUND"),
    Attack("POST /api/auth/invitations/%2e%2e/accept", b"{}", 404, "INVITATION_NOT_FOUND"),
    Attack("POST /api/auth/invitations/%ff/accept", b"{}", 404, "NOT_FOUND"),
    malformed(f"PUT {ACME}/members/ann", b'{"role":"VIEWER","org":"rival"}', "org"),
    malformed(f"PUT {ACME}/members/%00", b'{"role":"VIEWER"}'),
    Attack(f"PUT {ACME}/members/'--", b'{"role":"VIEWER"}', 404, "MEMBER_NOT_FOUND"),
    Attack(f"PUT {ACME}/members/%ff", b'{"role":"VIEWER"}', 404, "NOT_FOUND"),
    Attack(f"PUT {ACME}/members/{'x' * 5000}", b'{"role":"VIEWER"}', 404, "MEMBER_NOT_FOUND"),
    Attack(f"DELETE {ACME}/members/%2e%2e", None, 404, "MEMBER_NOT_FOUND"),
]

# What a lone half of a surrogate pair is: no character, in no place.
SURROGATES = [
    malformed(request, body)
    for half in (b"\\ud800", b"\\udfff", b"\\ud800\\ud800", b"\xed\xa0\x80")
    for request, body in (
        ("POST drafts", value("model", b'"%b"' % half)),
        ("POST drafts", draft(b'"delta":{"%b":1}' % half)),
        ("POST drafts", draft(b'"unset":["%b"]' % half)),
        ("POST drafts", draft(b'"changeReason":"%b"' % half)),
        ("POST drafts", b'{"modifications":[{"id":"%b"}]}' % half),
        ("POST drafts", b'{"sessionId":"%b","modifications":[{"id":"A"}]}' % half),
        ("POST commit", b'{"ids":["%b"]}' % half),
        ("POST commit", b'{"all":true,"changeReason":"%b"}' % half),
        ("POST commit", b'{"all":true,"expectedVersions":{"%b":1}}' % half),
        ("POST discard", b'{"sessionId":"%b"}' % half),
        ("PATCH rows/A", b'{"model":"%b"}' % half),
        ("POST /api/auth/login", b'{"email":"%b","password":"x"}' % half),
    )
]

VALUES = [
    *(
        invalid("POST drafts", value(field, text), field)
        for field, texts in {
            "monthlyRate": (
                b"-1",
                b"true",
                b'"1"',
                b"[]",
                b"{}",
                b"9" * 400,
                b"-" + b"9" * 400,
                b"0." + b"1" * 400,
                b"1e999999",
                b"-1e999999",
                b"1e-999999",
                b"1e30",
                b"1e400",
            ),
            "source": (b'"Stolen"', b'"rental"', b'["Rental"]', b"1", b'""'),
            "forecastStart": (
                b'"2026-02-30"',
                b'"2026-13-01"',
                b'"0000-01-01"',
                b'"infinity"',
                b'"now"',
                b'"2026-1-1"',
                b"20260101",
                '"\u0662\u0660\u0662\u0666-\u0660\u0661-\u0660\u0661"'.encode(),
                b'"2026-01-01T00:00:00Z"',
            ),
            "isActualized": (b'"true"', b"1", b"[]"),
            "model": (b"1", b"{}", b'"a\\u0000b"', b'"%b"' % (b"x" * 501), b"[" * 500 + b"]" * 500),
            "pfaId": (b'"B"', b"null"),
            "originalStart": (b'"2026-01-01"',),
            "planCost": (b"1",),
            "organization_id": (b'"rival"',),
            "x'; DROP TABLE pfa.mirror --": (b"1",),
        }.items()
        for text in texts
    ),
    malformed("POST drafts", value("monthlyRate", b"1e99999999999999999999")),
    malformed("POST drafts", value("monthlyRate", b"0e99999999999999999999")),
    malformed("POST drafts", value("monthlyRate", b"1e-99999999999999999999")),
    malformed("POST drafts", value("monthlyRate", b"9" * 5000)),
    *(
        malformed("POST drafts", value("monthlyRate", text))
        for text in (b"NaN", b"-Infinity", b"Infinity", b"0x10", b"01", b"+1", b".5", b"1_000")
    ),
    malformed("POST drafts", value("model", DEEP)),
    malformed("POST drafts", value("model", DEEP_OBJECT)),
    *(
        invalid("POST drafts", b'{"modifications":[{"id":%b,"delta":{"model":"x"}}]}' % exact_json.encode(key), key)
        for key in ("", "A\0", "a\nb", "\u202e", "nobody's", "A' OR TRUE --", "..", "../A", "*", "%")
    ),
    invalid("POST drafts", b'{"modifications":[{"id":"%b"}]}' % (b"x" * 201), "x" * 200),
    invalid("POST drafts", draft(b'"op":"delete","delta":{"model":"x"}'), "A"),
    invalid("POST drafts", draft(b'"op":"insert"'), "A"),
    invalid("POST drafts", draft(b'"unset":["no such"]'), "no such"),
    invalid("POST drafts", draft(b'"expectedVersion":9223372036854775807'), "A"),
    invalid("POST drafts", draft(b'"delta":{"model":"x"},"changeReason":"\\u0000"'), "A"),
    invalid(
        "POST drafts",
        b'{"atomic":true,"modifications":[{"id":"A","delta":{"model":"x"}},{"id":"B","delta":{"model":1}}]}',
        "B",
    ),
    invalid(
        "POST drafts", b'{"atomic":true,"modifications":[{"id":"A","delta":{"model":"x"}},{"id":"nobody"}]}', "nobody"
    ),
    *(
        invalid("PATCH rows/A", b'{"%b":%b}' % pair, pair[0].decode())
        for pair in (
            (b"no such", b"1"),
            (b"pfaId", b'"B"'),
            (b"source", b'"Stolen"'),
            (b"monthlyRate", b"1e400"),
            (b"model", b'"\\u0000"'),
            (b"model", b"[1]"),
            (b"forecastEnd", b'"soon"'),
        )
    ),
    malformed("PATCH rows/A", b'{"monthlyRate":1e99999999999999999999}'),
    invalid("POST /api/pfa/acme/draft", b'{"modifications":[{"pfaId":"A","delta":{"source":"Stolen"}}]}', "source"),
    *(
        invalid("POST commit", b'{"all":true,"resolutions":[{"id":"D",%b}]}' % resolution, "D")
        for resolution in (
            b'"field":"no such","use":"mine"',
            b'"field":"\\u0000","use":"mine"',
            b'"field":"model","use":"value"',
            b'"field":"model","use":"value","value":{}',
            b'"field":"model","use":"value","value":"\\u0000"',
            b'"field":"model","use":"mine","value":1',
            b'"field":"sourcing","use":"value","value":1',
            b'"field":"sourcing","use":"value","value":{"no such":1}',
            b'"field":null,"use":"value","value":1',
            b'"field":"category","use":"mine"',
            b'"field":"model","use":"mine"},{"id":"D","field":"model","use":"theirs"',
        )
    ),
    invalid("POST commit", b'{"all":true,"resolutions":[{"id":"nobody","field":"model","use":"mine"}]}', "nobody"),
]

LONG = "x" * 14_000  # as long as it fits into an address
LISTS = [
    *(
        unfit(f"{name}={text}", name)
        for name in ("pageSize", "page")
        for text in (
            "-1",
            "0",
            "1" + "0" * 30,
            "x",
            "1e3",
            "1.0",
            "",
            "%D9%A1",
            "1;DROP",
            "1 UNION SELECT 1",
            "0x1",
            "%00",
            "NaN",
        )
    ),
    unfit("pageSize=1001", "pageSize"),
    unfit("page=99999999", "page"),
    unfit("page=1&page=2", "page"),
    unfit("page=1&after=x", "page"),
    *(
        unfit(f"sort={text}", "sort")
        for text in (
            "nope",
            "--category",
            "category desc",
            "category,category",
            "category,-category",
            "data",
            "row_key",
            "organization_id",
            "1",
            "(SELECT 1)",
            "id;DROP TABLE pfa.mirror",
            "category'",
            "model,dor,source,class,category,areaSilo",
            LONG,
        )
    ),
    *(unfit(f"sortBy={text}", "sortBy") for text in ("nope", "(SELECT 1)", "category&sort=model", "category'--")),
    unfit("sortOrder=desc;", "sortOrder"),
    *(
        unfit(f"fields={text}", "fields")
        for text in ("nope", "data", "*", "model,'", "model) FROM pfa.mirror --", LONG)
    ),
    unfit("include=all", "include"),
    unfit("include=computed&include=overlap,all", "include"),
    unfit("include=computed;overlap", "include"),
    unfit("count=exact'", "count"),
    unfit("count=exact&count=none", "count"),
    unfit("syncState=weird", "syncState"),
    unfit("syncState=draft' OR TRUE", "syncState"),
    *(
        unfit(f"{name}=1", name)
        for name in (
            "nope",
            "organization_id",
            "row_key",
            "user_id",
            "data",
            "category[near]",
            "category[eq]",
            "category[IN]",
            "category[]",
            "category[in",
            "category]",
            "[in]",
            "category[in][in]",
            "1",
            "'",
            "category'--",
            "category) OR (TRUE",
            "__class__",
            "model;--",
            " category",
        )
    ),
    unfit(f"{LONG}=1", LONG[:80]),
    unfit(f"category[{LONG}]=1", f"category[{LONG}"[:80]),
    unfit(f"monthlyRate={'1' * 14_000}x", "monthlyRate"),
    *(
        unfit(f"{name}={text}", name)
        for name in ("search", "category[contains]", "model[startswith]")
        for text in ("x" * 1001, "%CC%A3%CC%81" * 1200)
    ),
    unfit(f"searchText={LONG}", "searchText", "/api/pfa/acme"),
    unfit("=1"),
    *(
        unfit(f"{name}={text}", name)
        for name in ("monthlyRate", "monthlyRate[gt]", "monthlyRate[in]", "purchasePrice", "planCost[lte]")
        for text in (
            "abc",
            "",
            "NaN",
            "Infinity",
            "1e999999",
            "1e99999999999999999999",
            "9" * 400,
            "1;2",
            "1_000",
            "%D9%A1",
            "%201",
            "1 OR 1=1",
            "-",
            "0x1",
        )
    ),
    *(
        unfit(f"{name}={text}", name)
        for name in ("forecastStart", "forecastStart[gte]", "originalStart")
        for text in ("2026-02-30", "yesterday", "infinity", "2026-1-1", "0000-01-01", "10000-01-01", "", "2026-01-01'")
    ),
    *(unfit(f"isActualized={text}", "isActualized") for text in ("yes", "1", "", "t", "null")),
    unfit("isActualized[gt]=true", "isActualized[gt]"),
    unfit("category[isnull]=x", "category[isnull]"),
    unfit("category[isnull]=true&category[isnull]=false", "category[isnull]"),
    unfit("monthlyRate[contains]=1", "monthlyRate[contains]"),
    unfit("monthlyRate[gt]=1&monthlyRate[gt]=2", "monthlyRate[gt]"),
    unfit("source=Stolen", "source"),
    *(
        unfit(f"{name}={text}", name)
        for name in ("search", "category", "category[contains]", "id", "model[ne]")
        for text in ("%00", "a%00b", "%1F")
    ),
    unfit("category[in]=" + ",".join(map(str, range(2001))), "category[in]"),
    unfit("id[nin]=" + ",".join(map(str, range(2001))), "id[nin]"),
    unfit("&".join(f"category={number}" for number in range(201))),
    unfit("&".join(["page=1"] * 201)),
    *(
        unfit(query)
        for query in ("category=%ff", "%ff=1", "search=%ed%a0%80", "category=%c0%80", "sort=%fe", "after=%ff")
    ),
    *(
        unfit(f"{name}={text}", name, "/api/pfa/acme")
        for name, text in {
            "nope": "1",
            "monthlyRate": "1",
            "sort": "model",
            "after": "x",
            "category[in]": "x",
            "sortBy": "nope'",
            "sortOrder": "up",
            "page": "0",
            "pageSize": "1001",
            "source": "Stolen",
            "isActualized": "1",
            "dateRangeStart": "x",
            "dateRangeEnd": "2026-02-30",
            "searchText": "%00",
            "category": ",".join(map(str, range(2001))),
            "syncState": "weird",
        }.items()
    ),
    *(
        unfit(query, query.partition("=")[0], "drafts")
        for query in ("pageSize=0", "pageSize=1001", "pageSize=x", "page=1", "sort=model", "pageSize=1&pageSize=2")
    ),
    unfit("after=%ff", None, "drafts"),
    unfit("include=all", "include", "rows/A"),
    unfit("include=layers", "include", "rows/A"),
    unfit("include=overlap&include=overlap,all", "include", "rows/A"),
    unfit("fields=model", "fields", "rows/A"),
    unfit("full=true", "full", "sync/health"),
    unfit("limit=1", "limit", f"{ACME}/members"),
    unfit("x=1", "x", "/api/auth/me"),
    Attack("POST commit?dryRun=true", b'{"all":true}', 400, "INVALID_FILTER", "dryRun"),
    Attack("POST drafts?atomic=true", value("model", b'"x"'), 400, "INVALID_FILTER", "atomic"),
    Attack("PATCH rows/A?expectedVersion=7", b'{"model":"x"}', 400, "INVALID_FILTER", "expectedVersion"),
    Attack("POST /api/pfa/acme/discard?pfaIds=A", b'{"discardAll":true}', 400, "INVALID_FILTER", "pfaIds"),
    *(
        Attack(f"GET {path}?after={text}", None, 400, "INVALID_CURSOR")
        for path in ("rows", "drafts")
        for text in ("x", "x.y", ".", "..", "' OR TRUE --", "%C3%A9", "e30.e30", LONG)
    ),
]

PATHS = [
    *(
        Attack(f"{method} rows/{key}", body, 404, "ROW_NOT_FOUND")
        for method, body in (("GET", None), ("PATCH", b'{"model":"x"}'))
        for key in (
            "nobody",
            "A%00",
            "A'",
            "%22",
            "%2e%2e",
            "A%2FB",
            "..%2f..%2fsecret",
            "%20",
            "A%0A",
            "' OR '1'='1",
            "$1",
            "x" * 5000,
        )
    ),
    *(
        Attack(f"GET {path}", None, 404, "NOT_FOUND")
        for path in (
            "rows/A/B",
            "rows/%ff",
            "rows/%ed%a0%80",
            "rows/A/",
            f"{ACME}/datasets/%ff/rows",
            "/api/v1/orgs/%ff/members",
            "/",
            "/nope",
            "/%ff",
            "/%00",
            "/api",
            "/api/v1/orgs",
            f"{ACME}/dataset",
            "/schema/assets/..%2f..%2f..%2fpyproject.toml",
            "/schema/assets/%00",
            f"{ACME}/..%2fmembers",
        )
    ),
    *(
        Attack(f"{method} {ACME}/datasets/{name}/{path}", body, 404, "DATASET_NOT_FOUND")
        for name in ("nope", "pfa%00", "pfa'--", "PFA", "__class__", "pfa%2F", "pfa.mirror", "x" * 5000)
        for method, path, body in (
            ("GET", "rows", None),
            ("GET", "rows/A", None),
            ("GET", "drafts", None),
            ("PATCH", "rows/A", b"{}"),
            ("POST", "commit", b'{"all":true}'),
            ("POST", "drafts", draft(b'"delta":{}')),
        )
    ),
    *(
        Attack(f"GET /api/v1/orgs/{name}/{path}", None, 403, "FORBIDDEN")
        for name in ("nope", "acme%00", "acme'--", "ACME", "acme%2F", "%2e%2e", "%20acme", "x" * 5000)
        for path in ("datasets/pfa/rows", "members")
    ),
    Attack("GET /api/pfa/acme%00", None, 403, "FORBIDDEN"),
    *(
        Attack(f"{method} rows", None, 405, "METHOD_NOT_ALLOWED")
        for method in ("PUT", "DELETE", "POST", "TRACE", "PROPFIND", "FOO", "CONNECT")
    ),
    *(Attack(f"{method} drafts", b"{}", 405, "METHOD_NOT_ALLOWED") for method in ("PUT", "PATCH", "DELETE")),
]

HEADERS = [
    *(
        Attack(
            "POST drafts", value("model", b'"x"'), 400, "MALFORMED_REQUEST", "Idempotency-Key", {"Idempotency-Key": key}
        )
        for key in ("", " ", "a b", "x" * 201, b"\xff", b"\0", b"\xc3\xa9", "a\tb")
    ),
    *(
        Attack("PATCH rows/A", b'{"model":"x"}', 412, "PRECONDITION_FAILED", None, {"If-Match": tag})
        for tag in (
            "",
            "0",
            "x",
            '"999"',
            '"-1"',
            f'"{"9" * 5000}"',
            'W/"0"',
            b"\xff",
            ",,,",
            '"0',
            "'0'",
            '"0" OR TRUE',
        )
    ),
    *(
        Attack("GET rows", None, 401, code_of(header), None, {"Authorization": header})
        for header in (
            "",
            "Bearer",
            "Bearer x",
            "Basic YTpi",
            b"Bearer \xff",
            f"Bearer {LONG}",
            "Bearer a.b.c",
            "Bearer ..",
            "Bearer ' OR TRUE --",
            "Bearer null",
            "Token x",
        )
    ),
]

ATTACKS = [*NOT_JSON, *SHAPES, *SURROGATES, *VALUES, *LISTS, *PATHS, *HEADERS]


@pytest.fixture(scope="module")
async def quiet(server_url: str, template: str) -> AsyncIterator[World]:
    """A world in which no attack changes anything: lines, a draft of ann's, one of bob's, a rival organization."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await world.organization("rival")
            documents = {key: line(equipment=SECRETS[0]) for key in ("A", "B", "D")}
            await world.mirror(documents)
            await world.mirror({"A": line(equipment=SECRETS[2])}, "rival")
            await (await world.user("bob")).draft("A", {"equipment": SECRETS[1]})
            await (await world.user("ann", role=Role.ADMIN)).draft("D", {"model": "M"})
            yield world


@pytest.fixture
async def attacker(quiet: World) -> User:
    """ann, who may do everything in acme, with a token of its own for each test."""
    roles = {"acme": Role.ADMIN}
    account = Account(id="ann", email="ann@example.com", name="ann", operator=False, roles=roles)
    return User(quiet, "ann", "acme", quiet.runtime.auth.issue(account))


async def contents(world: World) -> dict[str, str]:
    """A digest of every table, but of the attempts to log in, which are counted and recorded on purpose."""
    tables = await world.db.fetch(
        "SELECT schemaname || '.' || tablename AS name FROM pg_tables"
        " WHERE schemaname IN ('public', 'pfa', 'fleet') AND tablename NOT IN ('login_attempt', 'audit')"
    )
    digests = " UNION ALL ".join(
        f"SELECT '{name}', coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM {name} AS t"
        for (name,) in tables
    )
    return dict(await world.db.fetch(digests))


def check_refusal(response: httpx.Response, status: int, code: str, culprit: str | None) -> None:
    """The answer is a problem, names what it is about, and tells nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    members = {"type", "title", "status", "detail", "instance", "code", "requestId"}
    assert members <= problem.keys() <= members | {"errors", "saved", "conflicts", "version"}
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:vanguard:error:{code}")
    assert problem["requestId"] == response.headers["X-Request-ID"] != ""
    assert all(isinstance(problem[name], str) for name in members - {"status"})
    if culprit is not None:
        named = [error.get(place) for error in problem["errors"] for place in ("parameter", "field", "id")]
        assert culprit in named, response.text
    assert not [word for word in (*SECRETS, *INSIDES) if word in response.text]
    # Nothing long comes back but the path.
    assert len(response.content) - len(problem["instance"]) < 5000
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="vanguard"')
    if status == 405:
        assert "OPTIONS" in response.headers["Allow"]


async def attack(user: User, request: str, body: Any = None, **options: Any) -> httpx.Response:
    method, _, path = request.partition(" ")
    headers = {"Content-Type": "application/json"} | dict(options.pop("headers", {}))
    return await user.request(method, path, content=body, headers=headers, **options)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.label) for case in ATTACKS])
async def test_what_cannot_be_accepted_is_refused_and_leaves_nothing_behind(
    quiet: World, attacker: User, case: Attack
) -> None:
    before = await contents(quiet)
    response = await attack(attacker, case.request, case.body, headers=case.headers)
    check_refusal(response, case.status, case.code, case.culprit)
    assert await contents(quiet) == before


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", ["POST drafts", "PATCH rows/A", "POST commit", "POST /api/auth/login"])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused_unread(
    quiet: World, attacker: User, request_: str, announced: bool
) -> None:
    """Whether its length was announced or it comes in pieces."""
    body = b'{"model":"%b"}' % (b"x" * 10_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1_000_000):
            yield body[start : start + 1_000_000]

    before = await contents(quiet)
    response = await attack(attacker, request_, body if announced else pieces())
    check_refusal(response, 413, "PAYLOAD_TOO_LARGE", None)
    assert await contents(quiet) == before


@pytest.mark.parametrize("name", ["category", "category[in]", "id", "after", "sort"])
async def test_the_longest_query_strings_are_answered(quiet: World, attacker: User, name: str) -> None:
    query = f"{quote(name)}=".encode()
    query += b"x" * (LONGEST - len(ROWS) - len(query))
    status, headers, body = await ask(attacker, "GET", ROWS, query)
    if name in ("after", "sort"):
        check_refusal(httpx.Response(status, headers=headers, content=body), 400, exact_json.decode(body)["code"], None)
    else:
        assert (status, exact_json.decode(body)["data"]) == (200, [])
    status, headers, body = await ask(attacker, "GET", ROWS, query + b"x")
    check_refusal(httpx.Response(status, headers=headers, content=body), 414, "TARGET_TOO_LONG", None)


async def test_the_longest_lists_that_are_taken(quiet: World, attacker: User) -> None:
    """A thousand values a filter, a hundred filters: refused by no bound of the database's own."""
    values = ",".join(["A", *map(str, range(999))])
    query = "&".join([f"id[in]={values}", *(f"model[ne]={number}" for number in range(100))])
    status, _, body = await ask(attacker, "GET", ROWS, query.encode())
    assert (status, [row["id"] for row in exact_json.decode(body)["data"]]) == (200, ["A"])


async def ask(user: User, method: str, path: str, query: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A request past httpx, which refuses to send long ones."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"vanguard.test"), (b"authorization", f"Bearer {user.token}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("vanguard.test", 80),
        "state": {},
    }

    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        """The body, and nothing after it: whoever listens whether the client has left would listen without an end."""
        while not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    application: Any = user.world.application
    await application(scope, receive, send)
    return sent[0]["status"], sent[0]["headers"], b"".join(message.get("body", b"") for message in sent)


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["", " ", "a b", "x" * 65, b"\xff", "'; DROP TABLE", "a\nSet-Cookie: b", "<script>", "\0"]
)
async def test_a_request_id_that_could_do_harm_is_replaced(attacker: User, given: str | bytes) -> None:
    for path, status in (("rows", 200), ("rows?nope=1", 400)):
        response = await attack(attacker, f"GET {path}", headers={"X-Request-ID": given})
        assert response.status_code == status
        assert response.headers["X-Request-ID"].isalnum()
        assert len(response.headers["X-Request-ID"]) == 32


async def test_a_harmless_request_id_comes_back(attacker: User) -> None:
    response = await attack(attacker, "GET rows?nope=1", headers={"X-Request-ID": "trace-1.a_B"})
    assert response.headers["X-Request-ID"] == response.json()["requestId"] == "trace-1.a_B"


@pytest.mark.parametrize("tag", ["", "x", '"', '"' * 1000, b"\xff", "," * 10_000, 'W/"', "'0'", "* OR TRUE"])
async def test_an_if_none_match_that_means_nothing_is_no_match(attacker: User, tag: str | bytes) -> None:
    response = await attack(attacker, "GET rows", headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert len(response.json()["data"]) == 3


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json; charset=latin-1",
        "application/msgpack",
        "application/json;;;",
        ";",
        "x",
        "",
    ],
)
async def test_a_body_is_read_as_json_whatever_it_is_called(quiet: World, attacker: User, kind: str) -> None:
    """So a form or an XML document is refused for what it is, and nothing is ever read in another way."""
    before = await contents(quiet)
    for body in (b"modifications=A", b"--x\r\n\r\n--x--", b"<a/>", b"\x81\xa1a\x01"):
        response = await attack(attacker, "POST drafts", body, headers={"Content-Type": kind})
        check_refusal(response, 400, "MALFORMED_REQUEST", None)
    response = await attack(
        attacker, "POST drafts", value("source", '"\u00e9"'.encode()), headers={"Content-Type": kind}
    )
    check_refusal(response, 422, "VALIDATION_FAILED", "source")
    assert await contents(quiet) == before


# -- cursors -----------------------------------------------------------------------------------------------------------


async def cursor(user: User, path: str = "rows", **params: Any) -> str:
    """The cursor behind the first row of a list."""
    following = (await user.get(path, params={"pageSize": 1, **params})).json()["pagination"]["nextCursor"]
    assert following is not None
    return str(following)


def opened(text: str) -> bytes:
    """Signature and content of a cursor, which anybody can read."""
    return urlsafe_b64decode(text + "==")


def sealed(key: bytes, content: bytes) -> str:
    """A cursor as Vanguard writes one, but under a key of one's own."""
    return urlsafe_b64encode(hmac.digest(key, content, "sha256") + content).rstrip(b"=").decode()


async def refuse_cursor(user: User, text: str, path: str = "rows", **params: Any) -> None:
    response = await user.get(path, params={"pageSize": 1, "after": text, **params})
    check_refusal(response, 400, "INVALID_CURSOR", None)


async def test_a_cursor_that_was_tampered_with_is_refused(attacker: User) -> None:
    good = await cursor(attacker)
    assert (await attacker.get("rows", {"after": good})).status_code == 200
    signature, content = good[:43], good[43:]
    for text in (
        good[:-1],
        good[1:],
        content,
        signature,
        f"{content}{signature}",
        f"{good}{good}",
        f"{good}=",
        f" {good}",
        f"{good[:50]}.{good[50:]}",
        good.swapcase(),
        f"{good[:-4]}AAAA",
    ):
        await refuse_cursor(attacker, text)


async def test_a_cursor_that_was_forged_is_refused(attacker: User) -> None:
    content = opened(await cursor(attacker))[32:]
    worse = content.replace(b'"A"', b'"\' OR TRUE --"')
    assert worse != content
    for key in (b"another secret of thirty-two letters", SECRET.encode(), b""):
        await refuse_cursor(attacker, sealed(key, content))
        await refuse_cursor(attacker, sealed(key, worse))
    await refuse_cursor(attacker, urlsafe_b64encode(opened(await cursor(attacker))[:32] + worse).decode())
    await refuse_cursor(attacker, attacker.token)
    await refuse_cursor(attacker, attacker.token.partition(".")[2])


async def test_a_cursor_is_no_token(attacker: User) -> None:
    header = jwt.encode({}, SECRET, algorithm="HS256").partition(".")[0]
    good = await cursor(attacker)
    for token in (good, f"{header}.{good}", f"{header}.{good[43:]}.{good[:43]}"):
        response = await attack(attacker, "GET rows", headers={"Authorization": f"Bearer {token}"})
        check_refusal(response, 401, "TOKEN_INVALID", None)


async def test_a_cursor_expires_after_a_day(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    good = await cursor(ann)
    ann.token = (await world.user("ann2", ttl=200_000)).token
    world.clock.move(hours=23, minutes=59)
    assert (await ann.get("rows", {"after": good})).status_code == 200
    world.clock.move(minutes=2)
    response = await ann.get("rows", {"after": good})
    check_refusal(response, 400, "INVALID_CURSOR", None)
    assert "expired" in response.json()["detail"]


async def test_a_cursor_of_another_listing_is_refused(quiet: World, world: World, ann: User) -> None:
    """Another sort, direction, dataset or organization: its position would mean something else there."""
    for name in ("acme", "second"):
        if name == "second":
            await world.organization(name)
        await world.mirror({"A": line(), "B": line()}, name)
    eve = await world.user("eve", "second")
    good, sorted_ = await cursor(ann), await cursor(ann, sort="category")
    await refuse_cursor(ann, good, sort="category")
    await refuse_cursor(ann, sorted_)
    await refuse_cursor(ann, sorted_, sort="-category")
    await refuse_cursor(ann, sorted_, sort="category,model")
    await refuse_cursor(ann, good, path="drafts")
    await refuse_cursor(ann.on("fleet"), good)
    await refuse_cursor(eve, good)
    await ann.draft("A", {"model": "x"})
    await ann.draft("B", {"model": "x"})
    of_drafts = await cursor(ann, "drafts")
    await refuse_cursor(ann, of_drafts)
    await refuse_cursor(ann.on("fleet"), of_drafts, path="drafts")
    await refuse_cursor(eve, of_drafts, path="drafts")


# -- what only looks dangerous -----------------------------------------------------------------------------------------

PAYLOADS = (
    "' OR '1'='1",
    "'; DROP TABLE pfa.mirror; --",
    "$1",
    "%s{0}\\",
    '"; SELECT 1; --',
    "/*{keys}*/",
    "\\'); --",
    "NULL",
)


@pytest.mark.parametrize("text", PAYLOADS)
async def test_what_looks_like_sql_is_a_text_like_any_other(world: World, ann: User, bob: User, text: str) -> None:
    """As an id, a value, a reason, a session, a key, a filter and a search: kept as it came, and found again."""
    await world.mirror({"A": line(model="other"), "B": line()})
    headers = {"Idempotency-Key": quote(text)}
    key = text.replace("/", "|")  # a path cannot name an id that has one
    fields = ("category", "source", "dor", "monthlyRate", "forecastStart", "forecastEnd")
    delta = {"model": text, **{name: line()[name] for name in fields}}
    body = {"sessionId": text, "modifications": [{"id": key, "op": "insert", "delta": delta, "changeReason": text}]}
    response = await ann.post("drafts", body, headers=headers)
    assert response.status_code == 200, response.text

    for name, word in {
        "model": text,
        "id": key,
        "id[in]": key,
        "model[contains]": text.lower(),
        "search": text,
    }.items():
        page = await ann.page(**{name: word})
        assert [row["id"] for row in page["data"]] == [key], name
        assert page["pagination"]["totalRecords"] == 1
        assert (await bob.page(**{name: word}))["data"] == []
    row = await ann.row(quote(key, safe=""))
    assert (row["id"], row["data"]["model"], row["op"]) == (key, text, "insert")
    assert len(await ann.rows()) == 3

    response = await ann.post("commit", {"sessionId": text, "changeReason": text})
    assert response.status_code == 200, response.text
    assert (await ann.row(quote(key, safe="")))["history"][0]["changeReason"] == text
    assert await world.db.fetchval("SELECT count(*) FROM pfa.mirror") == 2


async def test_of_a_member_given_twice_neither_is_guessed(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    for request, body, member in (
        ("POST drafts", b'{"modifications":[{"id":"A","id":"B","delta":{"model":"1"}}]}', "id"),
        ("POST drafts", b'{"modifications":[{"id":"A","delta":{"model":"1","mod\\u0065l":"1"}}]}', "model"),
        ("PATCH rows/A", b'{"model":"1","model":"2"}', "model"),
        ("PATCH rows/A", b'{"model":{"deep":[{"x":1,"x":1}]}}', "x"),
        ("POST commit", b'{"all":true,"dryRun":true,"dryRun":false}', "dryRun"),
        ("POST discard", b'{"ids":["A"],"all":true,"ids":["B"]}', "ids"),
        ("POST /api/pfa/acme/draft", b'{"modifications":[{"pfaId":"A","delta":{"a":1,"":2,"":3}}]}', ""),
        ("POST /api/auth/login", b'{"email":"a@x.example","password":"a","password":"b"}', "password"),
    ):
        problem = refused(await attack(ann, request, body), 400, "MALFORMED_REQUEST")
        assert [(error["code"], error["field"]) for error in problem["errors"]] == [("DUPLICATE_MEMBER", member)]
    assert not (await ann.get("drafts")).json()["data"]


async def test_of_a_batch_only_the_bad_ones_are_left_out(world: World, ann: User) -> None:
    """Unless it is atomic; and a row that is named twice, once badly, is a bad one."""
    await world.mirror({"A": line(), "B": line(), "C": line()})
    drafts = [
        {"id": "A", "delta": {"model": "x"}},
        {"id": "B", "delta": {"model": "x"}},
        {"id": "B", "delta": {"model": 1}},
        {"id": "nobody", "delta": {"model": "x"}},
        {"id": "C", "delta": {"model": "x", "no such": 1}},
    ]
    before = await contents(world)
    response = await ann.post("drafts", {"atomic": True, "modifications": drafts})
    check_refusal(response, 422, "VALIDATION_FAILED", "no such")
    assert await contents(world) == before

    answer = (await ann.post("drafts", {"modifications": drafts})).json()
    assert [saved["id"] for saved in answer["saved"]] == ["A"]
    assert {(error["id"], error["code"]) for error in answer["errors"]} == {
        ("B", "INVALID_TYPE"),
        ("C", "UNKNOWN_FIELD"),
        ("nobody", "ROW_NOT_FOUND"),
    }
    assert [row["id"] for row in (await ann.get("drafts")).json()["data"]] == ["A"]


async def test_a_thousand_attacks_at_once_hurt_nobody(quiet: World, attacker: User) -> None:
    """Whoever asks in between is answered; the attacker waits for their own requests, or is told to."""
    eve = await quiet.user("eve")
    before = await contents(quiet)
    cases = [case for case in ATTACKS if case.body is None or len(case.body) < 1000][:400]
    answers = await asyncio.gather(
        *(attack(attacker, case.request, case.body, headers=case.headers) for case in cases), eve.get("rows")
    )
    found = [answer.status_code for answer in answers]
    assert found.pop() == 200
    assert all(status in (case.status, 429) for status, case in zip(found, cases, strict=True))
    assert await contents(quiet) == before
