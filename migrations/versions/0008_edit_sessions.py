"""Edit sessions and their validation runs; the ways between their states, which the database itself holds.

What is edited, and the steps of undo, come with the contracts' tables (sql/schema/dataset.sql).
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # edit_session. rows: those that may be edited, NULL for all; staged: bytes of its edits; run_id: the validation run
    # of its last preview; digest: of that preview.
    # validation_run. reason, decided_by: why its warnings were overridden, and by whom.
    op.execute("""
CREATE TABLE public.state_transition (
    machine text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    PRIMARY KEY (machine, from_state, to_state)
);
INSERT INTO public.state_transition (machine, from_state, to_state) VALUES
    ('session', 'active', 'preview'), ('session', 'active', 'aborted'), ('session', 'active', 'expired'),
    ('session', 'preview', 'active'), ('session', 'preview', 'submitted'), ('session', 'preview', 'aborted'),
    ('session', 'preview', 'expired'), ('session', 'submitted', 'active'),
    ('validation', 'not_started', 'in_progress'), ('validation', 'in_progress', 'passed'),
    ('validation', 'in_progress', 'partial_pass'), ('validation', 'in_progress', 'failed'),
    ('validation', 'partial_pass', 'passed'), ('validation', 'partial_pass', 'failed'),
    ('validation', 'failed', 'in_progress');

CREATE FUNCTION public.hold_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.state_transition AS t
                    WHERE t.machine = TG_ARGV[0] AND t.from_state = OLD.state AND t.to_state = NEW.state) THEN
        RAISE EXCEPTION 'A % does not go from % to %.', TG_ARGV[0], OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_transition';
    END IF;
    RETURN NEW;
END
$$;

CREATE TABLE public.edit_session (
    organization_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    mode text NOT NULL CHECK (mode IN ('full_table', 'row_selection')),
    rows text[],
    title text,
    state text NOT NULL DEFAULT 'active'
        CONSTRAINT edit_session_state_check
        CHECK (state IN ('active', 'preview', 'submitted', 'aborted', 'expired')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    edits bigint NOT NULL DEFAULT 0,
    staged bigint NOT NULL DEFAULT 0,
    run_id uuid,
    digest text,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset (organization_id, name) ON DELETE CASCADE,
    CONSTRAINT edit_session_rows_check CHECK ((mode = 'row_selection') = (rows IS NOT NULL)),
    CONSTRAINT edit_session_ended_at_check CHECK ((ended_at IS NOT NULL) = (state IN ('aborted', 'expired')))
);
CREATE INDEX edit_session_newest ON public.edit_session (organization_id, dataset, user_id, created_at DESC, id);
CREATE INDEX edit_session_expiring ON public.edit_session (organization_id, dataset, expires_at)
    WHERE state IN ('active', 'preview');
CREATE INDEX edit_session_ended ON public.edit_session (organization_id, dataset, ended_at)
    WHERE ended_at IS NOT NULL;
CREATE TRIGGER hold_transition BEFORE UPDATE ON public.edit_session
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION public.hold_transition('session');

CREATE TABLE public.validation_run (
    organization_id text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    contract_version text NOT NULL,
    state text NOT NULL DEFAULT 'not_started'
        CONSTRAINT validation_run_state_check
        CHECK (state IN ('not_started', 'in_progress', 'passed', 'partial_pass', 'failed')),
    counts jsonb,
    messages jsonb,
    started_at timestamptz,
    finished_at timestamptz,
    reason text,
    decided_by text COLLATE "C",
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, session_id) REFERENCES public.edit_session (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT validation_run_reason_check CHECK ((reason IS NULL) = (decided_by IS NULL))
);
CREATE INDEX validation_run_session ON public.validation_run (organization_id, session_id);
CREATE TRIGGER hold_transition BEFORE UPDATE ON public.validation_run
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION public.hold_transition('validation');

GRANT SELECT ON public.state_transition TO vanguard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.edit_session, public.validation_run TO vanguard_app;
    """)


def downgrade() -> None:
    # Functions of the datasets know the tables: they come again with `vanguard migrate`.
    op.execute("""
DROP FUNCTION IF EXISTS vanguard.open_sessions(text, text, text, timestamptz);
DROP TABLE public.validation_run;
DROP TABLE public.edit_session;
DROP FUNCTION public.hold_transition();
DROP TABLE public.state_transition;
    """)
