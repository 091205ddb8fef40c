"""Which life of the database this is: counters go back when a backup is restored, and must never count twice.

And emails in one normal form, as they are compared; of two accounts with one address each keeps what it has.
"""

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
UPDATE public.account AS a
   SET email = normalize(a.email, NFC)
 WHERE a.email IS NOT NFC NORMALIZED
   AND NOT EXISTS (SELECT FROM public.account AS o
                    WHERE o.id <> a.id AND normalize(o.email, NFC) = normalize(a.email, NFC));
    """)


def downgrade() -> None:
    op.execute("DROP TABLE public.incarnation;")
