"""Datasets of an organization's own: registered contracts, states, the system mode, records as received."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # dataset. name: its address, `customers` or, of a version beside that one, `customers@2`; base: without a version;
    # schema_name: where an organization's own lies, NULL for a built-in one; owner: who registered it; supersedes: the
    # major version that it took the place of; promoted_at: when it became ACTIVE, which can be undone for a day.
    # kpi_revision: that the view of KPIs was refreshed at last, of an organization's own.
    # contract. document: the contract as it registers again, with all ids of fields; changes: from the version before;
    # storage: a digest of the DDL that its schema was made by.
    # dataset_state. What each state allows, as app/contracts/states.py has it; a test holds the two together.
    # dataset. Two versions exchange their places in one statement, so that what is unique is looked at after it.
    # dataset_transition. revision: of the dataset behind it; undone_at: when a promotion was rolled back.
    # feed.for_engineers: told to every ENGINEER, of a version in SHADOW.
    # received. Records as they came, by run and line; textual: of a CSV, whose values are all texts.
    # quarantine. line, raw: of a record that was ingested; discarded_at: a person has put it away.
    op.execute("""
CREATE TABLE public.dataset_state (
    state text PRIMARY KEY,
    queryable boolean NOT NULL,
    writable boolean NOT NULL,
    edited boolean NOT NULL,
    filled boolean NOT NULL,
    visible boolean NOT NULL,
    auto_joined boolean NOT NULL
);
INSERT INTO public.dataset_state (state, queryable, writable, edited, filled, visible, auto_joined) VALUES
    ('READ_ONLY', TRUE, FALSE, FALSE, TRUE, TRUE, TRUE),
    ('SHADOW', FALSE, TRUE, FALSE, TRUE, FALSE, FALSE),
    ('ACTIVE', TRUE, TRUE, TRUE, TRUE, TRUE, TRUE),
    ('DEPRECATED', FALSE, FALSE, FALSE, FALSE, FALSE, FALSE);
INSERT INTO public.state_transition (machine, from_state, to_state) VALUES
    ('dataset', 'SHADOW', 'ACTIVE'), ('dataset', 'ACTIVE', 'DEPRECATED'), ('dataset', 'DEPRECATED', 'ACTIVE'),
    ('dataset', 'ACTIVE', 'SHADOW'),
    -- Cells of it stayed behind when another version took over.
    ('request', 'approved', 'pending_review');

ALTER TABLE public.dataset
    ADD COLUMN base text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(name, '@', 1)) STORED,
    ADD COLUMN major integer NOT NULL DEFAULT 1,
    ADD COLUMN schema_name text COLLATE "C",
    ADD COLUMN state text NOT NULL DEFAULT 'ACTIVE' REFERENCES public.dataset_state,
    ADD COLUMN owner text COLLATE "C",
    ADD COLUMN supersedes integer,
    ADD COLUMN promoted_at timestamptz,
    ADD COLUMN deprecated_at timestamptz,
    ADD COLUMN kpi_revision bigint NOT NULL DEFAULT -1,
    ADD CONSTRAINT dataset_schema_name_key UNIQUE (schema_name) DEFERRABLE,
    ADD CONSTRAINT dataset_version_key UNIQUE (organization_id, base, major) DEFERRABLE,
    ADD CONSTRAINT dataset_deprecated_check CHECK ((deprecated_at IS NOT NULL) = (state = 'DEPRECATED'));
CREATE UNIQUE INDEX dataset_active ON public.dataset (organization_id, base) WHERE state = 'ACTIVE';
CREATE INDEX dataset_own ON public.dataset (organization_id, name) WHERE schema_name IS NOT NULL;

CREATE SEQUENCE public.dataset_schema;

CREATE TABLE public.contract (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    dataset text COLLATE "C" NOT NULL,
    major integer NOT NULL CHECK (major > 0),
    minor integer NOT NULL CHECK (minor >= 0),
    schema_name text COLLATE "C" NOT NULL,
    document text NOT NULL,
    fields integer NOT NULL,
    changes jsonb NOT NULL DEFAULT '[]',
    storage text NOT NULL,
    registered_by text COLLATE "C" NOT NULL,
    registered_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, dataset, major, minor)
);
CREATE INDEX contract_schema ON public.contract (schema_name, minor);

CREATE TABLE public.dataset_transition (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    dataset text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    major integer NOT NULL,
    version text NOT NULL,
    action text NOT NULL CHECK (action IN ('register', 'promote', 'deprecate', 'restore', 'rollback')),
    from_state text,
    to_state text NOT NULL,
    actor text COLLATE "C",
    reason text,
    at timestamptz NOT NULL,
    revision bigint,
    undone_at timestamptz,
    PRIMARY KEY (organization_id, dataset, id)
);
CREATE FUNCTION public.hold_dataset_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.action <> 'register'
       AND NOT EXISTS (SELECT FROM public.state_transition AS t
                        WHERE t.machine = 'dataset' AND t.from_state = NEW.from_state AND t.to_state = NEW.to_state)
    THEN
        RAISE EXCEPTION 'A dataset does not go from % to %.', NEW.from_state, NEW.to_state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'dataset_transition_state';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER dataset_transition_state BEFORE INSERT ON public.dataset_transition
    FOR EACH ROW EXECUTE FUNCTION public.hold_dataset_transition();

CREATE TABLE public.system (
    one boolean PRIMARY KEY DEFAULT TRUE CHECK (one),
    mode text NOT NULL DEFAULT 'READ_ONLY' CHECK (mode IN ('READ_ONLY', 'INGESTION_READY')),
    changed_at timestamptz,
    changed_by text COLLATE "C"
);
INSERT INTO public.system DEFAULT VALUES;

CREATE TABLE public.received (
    organization_id text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL,
    run_id uuid NOT NULL,
    line bigint NOT NULL,
    textual boolean NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (organization_id, dataset, received_at, run_id, line)
);

ALTER TABLE public.sync_run
    DROP CONSTRAINT sync_run_kind_check,
    ADD CONSTRAINT sync_run_kind_check CHECK (kind IN ('pull', 'push', 'check', 'ingest', 'replay', 'backfill')),
    ADD COLUMN skipped bigint NOT NULL DEFAULT 0,
    ADD COLUMN parameters jsonb;

ALTER TABLE public.quarantine
    ADD COLUMN line bigint,
    ADD COLUMN raw bytea,
    ADD COLUMN textual boolean,
    ADD COLUMN discarded_at timestamptz,
    ADD COLUMN discarded_by text COLLATE "C",
    ADD COLUMN discard_reason text;

ALTER TABLE public.feed ADD COLUMN for_engineers boolean NOT NULL DEFAULT FALSE;

GRANT SELECT ON public.dataset_state TO vanguard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.contract TO vanguard_app;
GRANT SELECT, INSERT, UPDATE ON public.dataset_transition TO vanguard_app;
GRANT SELECT, UPDATE ON public.system TO vanguard_app;
GRANT SELECT, INSERT, DELETE ON public.received TO vanguard_app;
GRANT USAGE ON SEQUENCE public.dataset_schema TO vanguard_app;
    """)


def downgrade() -> None:
    # Datasets of organizations' own go with their schemas: an earlier release knows nothing of them.
    op.execute("""
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT DISTINCT c.schema_name FROM public.contract AS c LOOP
        EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', found.schema_name);
    END LOOP;
    FOR found IN SELECT v.schemaname FROM pg_views AS v WHERE v.viewname = 'dataset' LOOP
        EXECUTE format('DROP VIEW %I.dataset', found.schemaname);
    END LOOP;
END
$$;
DELETE FROM public.dataset WHERE schema_name IS NOT NULL;
ALTER TABLE public.feed DROP COLUMN for_engineers;
DELETE FROM public.sync_run WHERE kind IN ('ingest', 'replay', 'backfill');
DELETE FROM public.quarantine WHERE line IS NOT NULL;
ALTER TABLE public.quarantine
    DROP COLUMN line, DROP COLUMN raw, DROP COLUMN textual, DROP COLUMN discarded_at, DROP COLUMN discarded_by,
    DROP COLUMN discard_reason;
ALTER TABLE public.sync_run
    DROP COLUMN parameters,
    DROP COLUMN skipped,
    DROP CONSTRAINT sync_run_kind_check,
    ADD CONSTRAINT sync_run_kind_check CHECK (kind IN ('pull', 'push', 'check'));
DROP TABLE public.received, public.system, public.dataset_transition, public.contract;
DROP FUNCTION public.hold_dataset_transition();
DROP SEQUENCE public.dataset_schema;
ALTER TABLE public.dataset
    DROP COLUMN base, DROP COLUMN major, DROP COLUMN schema_name, DROP COLUMN state, DROP COLUMN owner,
    DROP COLUMN supersedes, DROP COLUMN promoted_at, DROP COLUMN deprecated_at,
    DROP COLUMN kpi_revision;
DELETE FROM public.state_transition
 WHERE machine = 'dataset' OR machine = 'request' AND from_state = 'approved' AND to_state = 'pending_review';
DROP TABLE public.dataset_state;
    """)
