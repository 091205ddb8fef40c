"""Settings: one frozen struct, read once from the environment."""

import ipaddress
import os
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from app.base.cors import check_origin
from app.base.errors import ConfigurationError
from app.base.guessing import weak_password, weakness

PREFIX = "VANGUARD_"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field is read from `VANGUARD_<NAME>`; `database_url` also from `DATABASE_URL`.

    Lists are comma-separated. docs/settings.md explains every field; a test keeps the two in step.
    """

    database_url: str
    database_role: str = "vanguard_app"
    owner_url: str | None = None
    secret: Annotated[str, msgspec.Meta(min_length=32)]
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwks_url: str | None = None
    identity_providers: tuple[str, ...] = ()
    jwks_max_age: Annotated[int, msgspec.Meta(ge=3600)] = 24 * 3600
    jwt_issuer: str = "vanguard"
    jwt_audience: str = "vanguard"
    token_ttl: Annotated[int, msgspec.Meta(ge=60)] = 8 * 3600
    max_token_ttl: Annotated[int, msgspec.Meta(ge=60)] = 24 * 3600
    renewable_for: Annotated[int, msgspec.Meta(ge=60)] = 7 * 86400
    login_hashes: Annotated[int, msgspec.Meta(ge=1)] = 2
    login_queue: Annotated[int, msgspec.Meta(ge=1)] = 8
    login_failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    login_account_failures: Annotated[int, msgspec.Meta(ge=1)] = 20
    login_address_failures: Annotated[int, msgspec.Meta(ge=1)] = 100
    keep_login_addresses_days: Annotated[int, msgspec.Meta(ge=1)] = 90
    invitation_days: Annotated[int, msgspec.Meta(ge=1, le=90)] = 7
    max_invitations: Annotated[int, msgspec.Meta(ge=1)] = 1000
    invitation_page: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    cors_origin: tuple[str, ...] = ()
    cookie_secure: bool = True
    hsts_seconds: Annotated[int, msgspec.Meta(ge=0)] = 365 * 86400
    metrics_token: Annotated[str, msgspec.Meta(min_length=32)] | None = None
    environment: str = "production"
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    http2: bool = False
    head_timeout: Annotated[float, msgspec.Meta(ge=1)] = 10.0
    max_header_bytes: Annotated[int, msgspec.Meta(ge=4096, le=65_536)] = 32 * 1024
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    pool_size: Annotated[int, msgspec.Meta(ge=2)] = 10
    reserved_connections: Annotated[int, msgspec.Meta(ge=1)] = 2
    pool_timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    user_connections: Annotated[int, msgspec.Meta(ge=1)] = 4
    user_queue: Annotated[int, msgspec.Meta(ge=1)] = 32
    organization_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    prepared_statements: Annotated[int, msgspec.Meta(ge=0)] = 20
    statement_timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    read_timeout: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    slow_statement_ms: Annotated[float, msgspec.Meta(gt=0)] = 500.0
    max_target_bytes: Annotated[int, msgspec.Meta(ge=1024, le=65_000)] = 16 * 1024
    max_conditions: Annotated[int, msgspec.Meta(ge=1)] = 40
    max_values: Annotated[int, msgspec.Meta(ge=1)] = 2000
    max_login_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 4 * 1024
    max_small_body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 64 * 1024
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 8 * 1024 * 1024
    max_body_values: Annotated[int, msgspec.Meta(ge=1000)] = 200_000
    max_upload_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 1024 * 1024 * 1024
    max_uploads: Annotated[int, msgspec.Meta(ge=1)] = 4
    max_bodies_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 64 * 1024 * 1024
    user_bodies_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 1024 * 1024
    body_pause: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    body_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    upload_timeout: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    max_datasets: Annotated[int, msgspec.Meta(ge=0)] = 100
    max_drift_reports: Annotated[int, msgspec.Meta(ge=1)] = 1000
    max_joins: Annotated[int, msgspec.Meta(ge=0)] = 1000
    max_dataset_fields: Annotated[int, msgspec.Meta(ge=0)] = 5000
    user_draft_rows: Annotated[int, msgspec.Meta(ge=1)] = 250_000
    user_draft_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 512 * 1024 * 1024
    organization_draft_rows: Annotated[int, msgspec.Meta(ge=1)] = 2_000_000
    organization_draft_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 4 * 1024 * 1024 * 1024
    user_keys: Annotated[int, msgspec.Meta(ge=1)] = 100_000
    user_key_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 256 * 1024 * 1024
    organization_key_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 2 * 1024 * 1024 * 1024
    max_refusal_bytes: Annotated[int, msgspec.Meta(ge=0)] = 16 * 1024
    upstreams: str | None = None
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    keep_changes_days: Annotated[int, msgspec.Meta(ge=1)] = 90
    keep_history_days: Annotated[int, msgspec.Meta(ge=1)] = 730
    keep_audit_days: Annotated[int, msgspec.Meta(ge=1)] = 3650
    keep_feed_days: Annotated[int, msgspec.Meta(ge=1)] = 7
    keep_runs_days: Annotated[int, msgspec.Meta(ge=1)] = 30
    keep_sessions_days: Annotated[int, msgspec.Meta(ge=1)] = 30
    keep_requests_days: Annotated[int, msgspec.Meta(ge=1)] = 365
    keep_drift_days: Annotated[int, msgspec.Meta(ge=1)] = 365
    keep_received_days: Annotated[int, msgspec.Meta(ge=1)] = 30
    session_ttl: Annotated[int, msgspec.Meta(ge=60, le=30 * 86400)] = 24 * 3600
    session_max_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 100 * 1024 * 1024
    export_timeout: Annotated[float, msgspec.Meta(gt=0)] = 900.0
    max_exports: Annotated[int, msgspec.Meta(ge=1)] = 2
    max_queries: Annotated[int, msgspec.Meta(ge=1)] = 4
    max_query_rows: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000
    max_previews: Annotated[int, msgspec.Meta(ge=1)] = 200
    query_timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    query_memory_mb: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 64
    query_files_mb: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 1024
    keep_query_days: Annotated[int, msgspec.Meta(ge=1)] = 90
    stall_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    max_streams: Annotated[int, msgspec.Meta(ge=1)] = 2000
    user_streams: Annotated[int, msgspec.Meta(ge=1)] = 50
    log_level: str = "INFO"
    log_format: str = "json"

    @property
    def providers(self) -> dict[str, str]:
        """The addresses of identity providers' keys, by issuer."""
        if self.jwks_url is not None:
            return {self.jwt_issuer: self.jwks_url}
        return dict(provider.split(maxsplit=1) for provider in self.identity_providers)

    @property
    def is_production(self) -> bool:
        """Whether people's real data are here."""
        return self.environment == "production"

    @property
    def owner_address(self) -> str:
        """Where the owner of the tables logs in; where nobody says so, it is whoever logs in."""
        return self.owner_url or self.database_url

    @property
    def retention(self) -> dict[str, int]:
        """Days within which nothing can be forgotten, by kind: `vanguard migrate` stores them."""
        return {
            "audit": self.keep_audit_days,
            "feed": self.keep_feed_days,
            "history": self.keep_history_days,
            "received": self.keep_received_days,
        }

    @property
    def places_of_exports(self) -> int:
        """Exports at once in a process: one connection of the pool is left to others."""
        return min(self.max_exports, self.pool_size - 1)

    @property
    def places_of_queries(self) -> int:
        """Queries that run at once in a process, likewise."""
        return min(self.max_queries, self.pool_size - 1)


ALGORITHMS = {"HS256", "RS256", "ES256"}
# Roles that no service acts as, besides those of PostgreSQL's own: superusers, whoever logged in, what a provider
# administers by. Whatever else one is called, readiness looks at what it may.
ABOVE = set(
    "postgres none default root admin rdsadmin rds_superuser cloudsqladmin cloudsqlsuperuser azure_pg_admin azuresu "
    "azure_superuser supabase_admin".split()
)
LISTS = {field.name for field in msgspec.structs.fields(Settings) if field.type == tuple[str, ...]}


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; raises ConfigurationError that names the variable at fault."""
    environment = os.environ if environment is None else environment
    found: dict[str, object] = {}
    for name in Settings.__struct_fields__:
        text = environment.get(PREFIX + name.upper())
        if text is None and name == "database_url":
            text = environment.get("DATABASE_URL")
        if text is None or text == "":
            continue
        found[name] = tuple(part.strip() for part in text.split(",") if part.strip()) if name in LISTS else text
    for name, variable in (("database_url", "DATABASE_URL"), ("secret", "VANGUARD_SECRET")):
        if name not in found:
            raise ConfigurationError(f"{variable} is not set. docs/settings.md lists every setting.")
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"A setting is not usable: {_variable(str(error))}") from None
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Refuse combinations that would be unsafe or could never work."""
    if settings.database_role.lower() in ABOVE or settings.database_role.lower().startswith("pg_"):
        raise ConfigurationError(
            f"VANGUARD_DATABASE_ROLE: {settings.database_role} may do what the service never has to. Leave it at "
            "vanguard_app, or name a role that is a member of that and of no other."
        )
    unknown = set(settings.jwt_algorithms) - ALGORITHMS
    if unknown or not settings.jwt_algorithms:
        raise ConfigurationError(f"VANGUARD_JWT_ALGORITHMS may name {', '.join(sorted(ALGORITHMS))}.")
    _check_providers(settings)
    if settings.token_ttl > settings.max_token_ttl:
        raise ConfigurationError("VANGUARD_TOKEN_TTL is above VANGUARD_MAX_TOKEN_TTL: such tokens would be refused.")
    page = settings.invitation_page
    if page is not None and (not _is_safe(page) or "#" in page):
        raise ConfigurationError(
            f"VANGUARD_INVITATION_PAGE: {page!r} is no page to accept invitations at: https://..., without a #. "
            "http is for this machine only."
        )
    for proxy in settings.trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise ConfigurationError(
                f"VANGUARD_TRUSTED_PROXIES: {proxy!r} is neither an address nor a network such as 10.0.0.0/8 "
                "(with no bit set behind its prefix)."
            ) from None
    for origin in settings.cors_origin:
        check_origin(origin)
    check_secrets(settings)


def check_secrets(settings: Settings) -> None:
    """Refuse what can be guessed."""
    for name, secret in (("VANGUARD_SECRET", settings.secret), ("VANGUARD_METRICS_TOKEN", settings.metrics_token)):
        if secret is not None and (why := weakness(secret)):
            raise ConfigurationError(f"{name} {why}. Make one by `openssl rand -hex 32`.")
    if settings.metrics_token == settings.secret:
        raise ConfigurationError("VANGUARD_METRICS_TOKEN is VANGUARD_SECRET, and whoever has it could sign tokens.")
    for name, address in (("VANGUARD_DATABASE_URL", settings.database_url), ("VANGUARD_OWNER_URL", settings.owner_url)):
        if address is not None and (why := weak_password(address)):
            raise ConfigurationError(f"The password in {name} {why}. Give the role one of `openssl rand -hex 24`.")


def _check_providers(settings: Settings) -> None:
    if settings.jwks_url is not None and settings.identity_providers:
        raise ConfigurationError("Set VANGUARD_JWKS_URL or VANGUARD_IDENTITY_PROVIDERS, not both.")
    if any(len(provider.split()) != 2 for provider in settings.identity_providers):
        raise ConfigurationError(
            "VANGUARD_IDENTITY_PROVIDERS lists issuers, each with a space and the address of its keys behind it: "
            "https://login.example https://login.example/keys"
        )
    if len(settings.providers) != len(settings.identity_providers or [settings.jwks_url]) and settings.providers:
        raise ConfigurationError("VANGUARD_IDENTITY_PROVIDERS has one issuer twice.")
    asked = set(settings.jwt_algorithms) - {"HS256"}
    if asked and not settings.providers:
        raise ConfigurationError(
            "RS256 and ES256 need the address of a provider's keys: VANGUARD_JWKS_URL or VANGUARD_IDENTITY_PROVIDERS."
        )
    if settings.identity_providers and "HS256" in settings.jwt_algorithms and settings.jwt_issuer in settings.providers:
        raise ConfigurationError("VANGUARD_JWT_ISSUER is ours and no identity provider's: choose another.")
    for url in settings.providers.values():
        if not _is_safe(url):
            raise ConfigurationError(
                f"{url!r} is no address of keys: https://..., for whoever can change them on the way can sign tokens. "
                "http is for this machine only."
            )


def _is_safe(url: str) -> bool:
    """Nobody on the way can change what comes from there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        loopback = host == "localhost" or (parts.scheme == "http" and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        loopback = False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))


def _variable(message: str) -> str:
    """Turn msgspec's path `$.pool_size` into the variable that the operator set."""
    head, _, path = message.partition(" - at `$.")
    return f"{PREFIX}{path.rstrip('`').upper()}: {head}" if path else head
