"""Control tables, roles and extensions."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
-- Everything but migrations and contract DDL runs as this role. It cannot log in: login roles are members of it.
-- Roles belong to the whole server: another database may have made it already, even at this moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vanguard_app') THEN
        CREATE ROLE vanguard_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;
-- Who migrates has to be able to act as it. Being its administrator (PostgreSQL 16 and later) is not enough for that,
-- so the grant is tried in any case; who may not grant is a member already, or is told so when it matters.
DO $$
BEGIN
    EXECUTE format('GRANT vanguard_app TO %I', current_user);
EXCEPTION WHEN insufficient_privilege THEN NULL;
END
$$;

-- For the search index only; where they are not installed, search works without it.
DO $$
BEGIN
    IF (SELECT count(*) FROM pg_available_extensions WHERE name IN ('pg_trgm', 'btree_gin')) = 2 THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE EXTENSION IF NOT EXISTS btree_gin;
    END IF;
END
$$;

CREATE TABLE public.organization (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text NOT NULL,
    managed_by_identity_provider boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.account (
    id text COLLATE "C" PRIMARY KEY,
    email text COLLATE "C" NOT NULL UNIQUE CHECK (email = lower(email)),
    name text NOT NULL,
    password_hash text,
    operator boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.membership (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    account_id text COLLATE "C" NOT NULL REFERENCES public.account ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('VIEWER', 'ANALYST', 'ENGINEER', 'ADMIN')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, account_id)
);
CREATE INDEX membership_account ON public.membership (account_id);

-- Tokens that were logged out before they expired.
CREATE TABLE public.revoked_token (
    id text COLLATE "C" PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- Failed logins, by a digest of address and email, to slow guessing down.
CREATE TABLE public.login_failure (
    digest bytea PRIMARY KEY,
    failures int NOT NULL,
    last_at timestamptz NOT NULL
);

-- One row an organization and dataset. revision: raised once by every transaction that changes the mirror.
CREATE TABLE public.dataset (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    contract_version text NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    require_approval boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, name)
) WITH (fillfactor = 50);

-- revision: raised by every change of the user's own modifications; their version is taken from it.
CREATE TABLE public.workspace (
    organization_id text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, dataset, user_id),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Answers to POSTs that carried an Idempotency-Key, kept for a day.
CREATE TABLE public.idempotency_key (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    request_digest bytea NOT NULL,
    status int,
    answer bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id, key)
);
CREATE INDEX idempotency_key_age ON public.idempotency_key (organization_id, created_at);

GRANT USAGE ON SCHEMA public TO vanguard_app;
GRANT SELECT ON public.alembic_version TO vanguard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    public.organization, public.account, public.membership, public.revoked_token, public.login_failure,
    public.dataset, public.workspace, public.idempotency_key
    TO vanguard_app;
    """)


def downgrade() -> None:
    # The role stays: it belongs to the server, and other databases may use it.
    op.execute("""
DROP TABLE public.idempotency_key, public.workspace, public.dataset, public.login_failure, public.revoked_token,
    public.membership, public.account, public.organization;
    """)
