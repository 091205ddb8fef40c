"""Which life of the database this is: counters go back when a backup is restored, and must never count twice."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One row. number: what no counter of an earlier life has reached; place: the database that it was begun in, '' for
    # one that `vanguard migrate` has not looked at yet.
    op.execute("""
CREATE TABLE public.incarnation (
    one boolean PRIMARY KEY DEFAULT TRUE CHECK (one),
    number bigint NOT NULL DEFAULT 0 CHECK (number >= 0),
    place text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO public.incarnation DEFAULT VALUES;
GRANT SELECT ON public.incarnation TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE public.incarnation;")
