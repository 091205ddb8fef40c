"""Change requests with their approvals and timeline, remembered resolutions; the ways between a request's states.

What a request changes is `change` in the dataset's schema, with the request's id (sql/schema/dataset.sql).
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # change_request. iteration: raised by whatever changes its cells; content: digest of these cells; conflicts: those
    # that the last merge met; validation: the run that the submission, or the last merge, was judged by; result: what
    # the merge answered; reverts, reverts_commit: what it undoes; left_out: what of that could not come back.
    # approval. digest: what the approver saw; it counts while the request has this iteration.
    # request_event. actor: NULL where nobody did it, but a worker.
    # resolution. What was done about a conflict of these three sides, to be done again.
    op.execute("""
INSERT INTO public.state_transition (machine, from_state, to_state) VALUES
    ('request', 'pending_review', 'approved'), ('request', 'pending_review', 'rejected'),
    ('request', 'pending_review', 'withdrawn'), ('request', 'approved', 'merging'),
    ('request', 'merging', 'merged'), ('request', 'merging', 'pending_review'), ('request', 'merged', 'closed'),
    ('request', 'rejected', 'pending_review'), ('request', 'withdrawn', 'pending_review');

CREATE TABLE public.change_request (
    organization_id text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    author text COLLATE "C" NOT NULL,
    title text NOT NULL,
    description text,
    approvers text[] NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'pending_review'
        CONSTRAINT change_request_state_check
        CHECK (state IN ('pending_review', 'approved', 'rejected', 'withdrawn', 'merging', 'merged', 'closed')),
    iteration integer NOT NULL DEFAULT 1,
    content text NOT NULL,
    conflicts jsonb NOT NULL DEFAULT '[]',
    validation jsonb NOT NULL,
    summary jsonb NOT NULL,
    base_revision bigint NOT NULL,
    merged_revision bigint,
    commit_id uuid,
    result jsonb,
    reason text,
    reverts uuid,
    reverts_commit uuid,
    left_out jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    merged_at timestamptz,
    merged_by text COLLATE "C",
    closed_at timestamptz,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset (organization_id, name) ON DELETE CASCADE,
    CONSTRAINT change_request_merged_check
        CHECK ((commit_id IS NOT NULL) = (state IN ('merged', 'closed'))
           AND (merged_at IS NOT NULL) = (state IN ('merged', 'closed'))
           AND (merged_by IS NOT NULL) = (state IN ('merged', 'closed'))
           AND (result IS NOT NULL) = (state IN ('merged', 'closed'))
           AND (closed_at IS NOT NULL) = (state = 'closed'))
);
CREATE INDEX change_request_newest ON public.change_request (organization_id, dataset, created_at DESC, id);
CREATE INDEX change_request_session ON public.change_request (organization_id, session_id);
CREATE INDEX change_request_merged ON public.change_request (organization_id, dataset) WHERE state = 'merged';
CREATE INDEX change_request_ended ON public.change_request (organization_id, dataset, updated_at)
    WHERE state IN ('rejected', 'withdrawn', 'closed');
CREATE TRIGGER hold_transition BEFORE UPDATE ON public.change_request
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION public.hold_transition('request');

CREATE TABLE public.approval (
    organization_id text COLLATE "C" NOT NULL,
    request_id uuid NOT NULL,
    iteration integer NOT NULL,
    approver text COLLATE "C" NOT NULL,
    digest text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, request_id, iteration, approver),
    FOREIGN KEY (organization_id, request_id) REFERENCES public.change_request (organization_id, id) ON DELETE CASCADE
);

CREATE TABLE public.request_event (
    organization_id text COLLATE "C" NOT NULL,
    request_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    iteration integer NOT NULL,
    actor text COLLATE "C",
    at timestamptz NOT NULL,
    text text,
    row_key text COLLATE "C",
    field text COLLATE "C",
    details jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (organization_id, request_id, id),
    FOREIGN KEY (organization_id, request_id) REFERENCES public.change_request (organization_id, id) ON DELETE CASCADE
);

CREATE TABLE public.resolution (
    organization_id text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    field text COLLATE "C",
    base jsonb NOT NULL,
    theirs jsonb NOT NULL,
    mine jsonb NOT NULL,
    use text NOT NULL CONSTRAINT resolution_use_check CHECK (use IN ('mine', 'theirs', 'base', 'value')),
    value jsonb,
    actor text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    used bigint NOT NULL DEFAULT 0,
    used_at timestamptz,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, dataset) REFERENCES public.dataset (organization_id, name) ON DELETE CASCADE
);
CREATE INDEX resolution_row ON public.resolution (organization_id, dataset, row_key, field);

GRANT SELECT, INSERT, UPDATE, DELETE
    ON public.change_request, public.approval, public.request_event, public.resolution TO vanguard_app;
    """)


def downgrade() -> None:
    # A function that looks for keepers of changes knows the table: it comes again with `vanguard migrate`.
    op.execute("""
DROP TABLE public.resolution;
DROP TABLE public.request_event;
DROP TABLE public.approval;
DROP TABLE public.change_request;
DELETE FROM public.state_transition WHERE machine = 'request';
    """)
