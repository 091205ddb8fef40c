"""Joins: what an ADMIN has accepted between two datasets, by versions, and how often it is used."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # child, parent: names of datasets without a version. child_fields, parent_fields: belong together by their places.
    # version: 1 of the same fields, one more each time that they are accepted again. statistics: as they were when it
    # was accepted. reason: why it was deprecated.
    op.execute("""
CREATE TABLE public.dataset_join (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    id uuid NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    child text COLLATE "C" NOT NULL,
    child_fields text[] COLLATE "C" NOT NULL,
    parent text COLLATE "C" NOT NULL,
    parent_fields text[] COLLATE "C" NOT NULL,
    state text NOT NULL DEFAULT 'accepted' CONSTRAINT dataset_join_state_check
        CHECK (state IN ('accepted', 'deprecated')),
    rationale text NOT NULL,
    confidence numeric NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    statistics jsonb NOT NULL,
    accepted_by text COLLATE "C" NOT NULL,
    accepted_at timestamptz NOT NULL,
    deprecated_by text COLLATE "C",
    deprecated_at timestamptz,
    reason text,
    uses bigint NOT NULL DEFAULT 0 CHECK (uses >= 0),
    last_used_at timestamptz,
    PRIMARY KEY (organization_id, id),
    CHECK (cardinality(child_fields) BETWEEN 1 AND 100 AND cardinality(child_fields) = cardinality(parent_fields)),
    CHECK ((state = 'deprecated') = (deprecated_at IS NOT NULL))
);
CREATE UNIQUE INDEX dataset_join_version
    ON public.dataset_join (organization_id, child, child_fields, parent, parent_fields, version);
CREATE UNIQUE INDEX dataset_join_accepted
    ON public.dataset_join (organization_id, child, child_fields, parent, parent_fields) WHERE state = 'accepted';
CREATE INDEX dataset_join_at ON public.dataset_join (organization_id, accepted_at DESC, id DESC);

INSERT INTO public.state_transition (machine, from_state, to_state) VALUES ('join', 'accepted', 'deprecated');
CREATE TRIGGER hold_transition BEFORE UPDATE OF state ON public.dataset_join
    FOR EACH ROW EXECUTE FUNCTION public.hold_transition('join');

GRANT SELECT, INSERT, UPDATE ON public.dataset_join TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("""
DROP TABLE public.dataset_join;
DELETE FROM public.state_transition WHERE machine = 'join';
    """)
