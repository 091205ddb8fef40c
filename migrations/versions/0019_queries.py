"""Queries: previews, what was run and what it cost, and how people corrected what was understood."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # query_preview. query: the question's normal form. sentence: as it was asked, NULL where it was structured. digest:
    # of the question and the versions that it reads.
    # query_execution. outcome: NULL while it runs. cost, estimated_rows: as the plan had it. joins: the accepted ones.
    # temp_file_limit takes a grant, which a superuser alone can give: without it temporary files are not bounded.
    op.execute("""
CREATE TABLE public.query_preview (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    query jsonb NOT NULL,
    sentence text,
    digest bytea NOT NULL,
    at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX query_preview_user ON public.query_preview (organization_id, user_id, expires_at);

CREATE TABLE public.query_correction (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    preview_id uuid NOT NULL,
    made_id uuid NOT NULL,
    type text NOT NULL CHECK (type IN ('JOIN_TYPE', 'FILTER', 'METRIC')),
    correction jsonb NOT NULL,
    query jsonb NOT NULL,
    sentence text,
    at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX query_correction_at ON public.query_correction (organization_id, at);

CREATE TABLE public.query_execution (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    preview_id uuid NOT NULL,
    query jsonb NOT NULL,
    sentence text,
    digest bytea NOT NULL,
    format text NOT NULL,
    joins uuid[] NOT NULL,
    cost double precision NOT NULL,
    estimated_rows bigint NOT NULL,
    override_reason text,
    at timestamptz NOT NULL,
    outcome text CHECK (outcome IN ('complete', 'failed', 'refused', 'left', 'timed_out', 'stalled')),
    seconds double precision,
    rows bigint,
    truncated boolean,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX query_execution_at ON public.query_execution (organization_id, user_id, at DESC, id DESC);
CREATE INDEX query_execution_all ON public.query_execution (organization_id, at DESC, id DESC);

GRANT SELECT, INSERT, DELETE ON public.query_preview TO vanguard_app;
GRANT SELECT, INSERT, DELETE ON public.query_correction TO vanguard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.query_execution TO vanguard_app;

DO $$
BEGIN
    IF (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user) THEN
        GRANT SET ON PARAMETER temp_file_limit TO vanguard_app;
    END IF;
END
$$;
    """)


def downgrade() -> None:
    op.execute("""
DROP TABLE public.query_execution, public.query_correction, public.query_preview;
DO $$
BEGIN
    IF (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user) THEN
        REVOKE SET ON PARAMETER temp_file_limit FROM vanguard_app;
    END IF;
END
$$;
    """)
