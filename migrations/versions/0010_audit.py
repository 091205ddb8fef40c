"""The audit: who did what, when, and to which cell. The service can add to it and read it, and nothing else."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # at: of the act, by the service's clock; actor: an account, NULL for nobody; action: a word of app/engine/audit.py;
    # details: what the action has beside, {before, after} where it is about a cell. No key leads out of the table: an
    # entry outlives what it is about.
    op.execute("""
CREATE TABLE public.audit (
    organization_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    actor text COLLATE "C",
    action text COLLATE "C" NOT NULL,
    dataset text COLLATE "C",
    request_id uuid,
    commit_id uuid,
    row_key text COLLATE "C",
    field text COLLATE "C",
    reason text,
    details jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (organization_id, id),
    CONSTRAINT audit_row_key_check CHECK (row_key IS NULL OR dataset IS NOT NULL),
    CONSTRAINT audit_field_check CHECK (field IS NULL OR row_key IS NOT NULL),
    CONSTRAINT audit_details_check CHECK (jsonb_typeof(details) = 'object')
);
CREATE INDEX audit_newest ON public.audit (organization_id, at, id);
CREATE INDEX audit_actor ON public.audit (organization_id, actor, at, id);
CREATE INDEX audit_action ON public.audit (organization_id, action, at, id);
CREATE INDEX audit_row ON public.audit (organization_id, dataset, row_key, at, id) WHERE row_key IS NOT NULL;
CREATE INDEX audit_request ON public.audit (organization_id, request_id, at, id) WHERE request_id IS NOT NULL;
CREATE INDEX audit_commit ON public.audit (organization_id, commit_id, at, id) WHERE commit_id IS NOT NULL;

CREATE FUNCTION public.forget_audit(organization text, earlier timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM public.audit AS a
     WHERE a.organization_id = organization
       AND a.id IN (SELECT o.id FROM public.audit AS o
                     WHERE o.organization_id = organization AND o.at < earlier
                     ORDER BY o.at, o.id
                     LIMIT most);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
REVOKE ALL ON FUNCTION public.forget_audit(text, timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.forget_audit(text, timestamptz, bigint) TO vanguard_app;
GRANT SELECT, INSERT ON public.audit TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("""
DROP FUNCTION public.forget_audit(text, timestamptz, bigint);
DROP TABLE public.audit;
    """)
