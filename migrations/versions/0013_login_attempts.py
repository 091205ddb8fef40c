"""Login attempts are reserved before they cost; addresses that an account was let in from."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # login_attempt. digest: keyed, of an email, an address, or both; kind: which of them, see count_attempts.sql;
    # failures: with those that are under way; open_at: from when on the next is let through.
    # login_address. address, pair: digests of the address, and of email and address; seen_at: the latest login there.
    # Failures of before are forgiven: none counts for longer than a quarter of an hour.
    op.execute("""
DROP TABLE public.login_failure;

CREATE TABLE public.login_attempt (
    digest bytea PRIMARY KEY,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 4),
    failures integer NOT NULL CHECK (failures >= 0),
    last_at timestamptz NOT NULL,
    open_at timestamptz NOT NULL
);
CREATE INDEX login_attempt_last_at ON public.login_attempt (last_at);

CREATE TABLE public.login_address (
    address bytea NOT NULL,
    pair bytea NOT NULL,
    account_id text COLLATE "C" NOT NULL REFERENCES public.account ON DELETE CASCADE,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (address, pair)
);
CREATE INDEX login_address_account ON public.login_address (account_id, seen_at);
CREATE INDEX login_address_seen_at ON public.login_address (seen_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON public.login_attempt, public.login_address TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("""
DROP TABLE public.login_address, public.login_attempt;
CREATE TABLE public.login_failure (
    digest bytea PRIMARY KEY,
    failures integer NOT NULL,
    last_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.login_failure TO vanguard_app;
    """)
