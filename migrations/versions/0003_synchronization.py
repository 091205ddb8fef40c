"""Where synchronization stands, its runs, and the rows that could not be taken."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
-- A dataset of an organization that a worker connects with its upstream.
-- watermark: the latest time of modification, by upstream's clock, up to which everything was pulled.
-- failures: in a row, of upstream; open_until: until then nobody asks it anything (the circuit is open).
CREATE TABLE public.synchronization (
    organization_id text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    pull_every integer NOT NULL CHECK (pull_every > 0),
    full_every integer NOT NULL CHECK (full_every > 0),
    watermark timestamptz,
    next_pull_at timestamptz NOT NULL,
    pulled_at timestamptz,
    pulled_whole_at timestamptz,
    pull_failures integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    open_until timestamptz,
    PRIMARY KEY (organization_id, dataset),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset (organization_id, name) ON DELETE CASCADE
);

-- A pull, or a push of what is in the outbox: asked for, under way, or over.
-- cursor: where a pull goes on; start_revision: the dataset's when it began; mark: the latest modification so far.
CREATE TABLE public.sync_run (
    organization_id text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('pull', 'push')),
    whole boolean NOT NULL DEFAULT false,
    state text NOT NULL CHECK (state IN ('requested', 'running', 'succeeded', 'failed')),
    requested_by text COLLATE "C",
    requested_at timestamptz NOT NULL,
    started_at timestamptz,
    progressed_at timestamptz,
    finished_at timestamptz,
    since timestamptz,
    cursor text,
    mark timestamptz,
    start_revision bigint,
    total bigint,
    rows_read bigint NOT NULL DEFAULT 0,
    inserted bigint NOT NULL DEFAULT 0,
    updated bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    deleted bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    conflicts bigint NOT NULL DEFAULT 0,
    left_alone bigint NOT NULL DEFAULT 0,
    dropped bigint NOT NULL DEFAULT 0,
    synced bigint NOT NULL DEFAULT 0,
    sync_errors bigint NOT NULL DEFAULT 0,
    retried bigint NOT NULL DEFAULT 0,
    error_code text,
    error text,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset (organization_id, name) ON DELETE CASCADE
);
CREATE INDEX sync_run_newest ON public.sync_run (organization_id, dataset, requested_at DESC, id);
CREATE INDEX sync_run_unfinished ON public.sync_run (organization_id, dataset, kind, requested_at)
    WHERE state IN ('requested', 'running');

-- Rows of upstream that break the contract: why, and as they were received. Gone when a good one comes.
CREATE TABLE public.quarantine (
    organization_id text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    reasons jsonb NOT NULL,
    received jsonb NOT NULL,
    run_id uuid NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, dataset, row_key),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset (organization_id, name) ON DELETE CASCADE
);

GRANT SELECT, INSERT, UPDATE, DELETE ON public.synchronization, public.sync_run, public.quarantine TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE public.quarantine, public.sync_run, public.synchronization")
