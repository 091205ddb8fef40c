"""Drift: reports of what is different from a contract, their changes, and what fields are called since."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # drift_report. dataset: its name without a version. version: of the contract that was held against. digest: of the
    # changes; the same drift of the same source is one report. schema: the contract of a report of source 'schema'.
    # drift_change. was, now: what the field's column is called, where it is looked for, and where it came.
    # field_mapping. name: the column that the field is read from; NULL: the field is null here.
    # synchronization.columns: what upstream sends beside what is read; NULL before the first pull.
    op.execute("""
CREATE TABLE public.drift_report (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    id uuid NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    version text NOT NULL,
    source text NOT NULL CHECK (source IN ('sample', 'schema', 'version', 'pull', 'ingest')),
    state text NOT NULL CONSTRAINT drift_report_state_check
        CHECK (state IN ('open', 'applied', 'accepted', 'mapped', 'rejected', 'gone')),
    severity text NOT NULL CHECK (severity IN ('COMPATIBLE', 'WARNING', 'BREAKING')),
    backward boolean NOT NULL,
    forward boolean NOT NULL,
    backward_all boolean NOT NULL,
    forward_all boolean NOT NULL,
    health jsonb,
    rows bigint,
    run_id uuid,
    digest bytea NOT NULL,
    columns text[] COLLATE "C",
    schema text,
    at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    times bigint NOT NULL DEFAULT 1,
    created_by text COLLATE "C",
    decided_by text COLLATE "C",
    decided_at timestamptz,
    reason text,
    made_version text,
    PRIMARY KEY (organization_id, id)
);
CREATE UNIQUE INDEX drift_report_seen ON public.drift_report (organization_id, dataset, source, version, digest)
    WHERE source IN ('pull', 'ingest')
      AND (state IN ('open', 'rejected', 'applied') OR (source = 'ingest' AND state = 'accepted'));
CREATE INDEX drift_report_at ON public.drift_report (organization_id, dataset, at DESC, id DESC);
CREATE INDEX drift_report_decided ON public.drift_report (seen_at) WHERE state <> 'open';

CREATE TABLE public.drift_change (
    organization_id text COLLATE "C" NOT NULL,
    report_id uuid NOT NULL,
    place integer NOT NULL,
    kind text NOT NULL,
    path text NOT NULL,
    field text COLLATE "C",
    was text COLLATE "C",
    now text COLLATE "C",
    old jsonb,
    new jsonb,
    severity text NOT NULL CHECK (severity IN ('COMPATIBLE', 'WARNING', 'BREAKING')),
    backward boolean NOT NULL,
    forward boolean NOT NULL,
    rule text NOT NULL,
    remedy text NOT NULL,
    confidence numeric CHECK (confidence BETWEEN 0 AND 1),
    evidence jsonb,
    uses jsonb NOT NULL,
    violations bigint,
    decision text CHECK (decision IN ('accepted', 'mapped')),
    mapped_to text COLLATE "C",
    PRIMARY KEY (organization_id, report_id, place),
    FOREIGN KEY (organization_id, report_id) REFERENCES public.drift_report ON DELETE CASCADE
);

CREATE TABLE public.field_mapping (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    dataset text COLLATE "C" NOT NULL,
    field text COLLATE "C" NOT NULL,
    name text COLLATE "C",
    report_id uuid NOT NULL,
    mapped_by text COLLATE "C" NOT NULL,
    mapped_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, dataset, field)
);

ALTER TABLE public.synchronization ADD COLUMN columns text[] COLLATE "C";

INSERT INTO public.state_transition (machine, from_state, to_state) VALUES
    ('drift', 'open', 'applied'), ('drift', 'open', 'accepted'), ('drift', 'open', 'mapped'),
    ('drift', 'open', 'rejected'), ('drift', 'open', 'gone');
CREATE TRIGGER hold_transition BEFORE UPDATE OF state ON public.drift_report
    FOR EACH ROW EXECUTE FUNCTION public.hold_transition('drift');

GRANT SELECT, INSERT, UPDATE, DELETE ON public.drift_report TO vanguard_app;
GRANT SELECT, INSERT, UPDATE ON public.drift_change TO vanguard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.field_mapping TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("""
ALTER TABLE public.synchronization DROP COLUMN columns;
DROP TABLE public.field_mapping, public.drift_change, public.drift_report;
DELETE FROM public.state_transition WHERE machine = 'drift';
    """)
