"""The last revision of a dataset that history does not tell."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
-- unrecorded: the last revision that came without history. KPIs do not trust a view that is older.
ALTER TABLE public.dataset ADD COLUMN unrecorded bigint NOT NULL DEFAULT 0;
    """)


def downgrade() -> None:
    # The views of KPIs read the table; `vanguard migrate` makes them anew.
    op.execute("""
DO $$
DECLARE
    kpi regclass;
BEGIN
    FOR kpi IN SELECT format('%I.%I', schemaname, matviewname)::regclass FROM pg_matviews WHERE matviewname = 'kpi' LOOP
        EXECUTE format('DROP MATERIALIZED VIEW %s', kpi);
    END LOOP;
END
$$;
ALTER TABLE public.dataset DROP COLUMN unrecorded;
    """)
