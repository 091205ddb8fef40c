"""Sessions that end, identity providers of organizations, invitations, and where an act came from."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # logout. Tokens of a subject that were issued before `at` count no more: nowhere where scope is '', else in that
    # organization. subject: an account's id, or a provider's issuer and the bearer's id there (app/web/auth.py).
    # organization.identity_provider: the issuer whose tokens count here; NULL: that of the only provider there is.
    # invitation. Only those that are open: accepting or withdrawing one deletes it. The link is signed, not stored.
    # audit.address: where the act came from; NULL for what nobody asked for over the network. An organization_id of ''
    # is the installation.
    op.execute("""
CREATE TABLE public.logout (
    subject text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    PRIMARY KEY (subject, scope)
);
CREATE INDEX logout_at ON public.logout (at);

ALTER TABLE public.organization ADD identity_provider text COLLATE "C";

CREATE TABLE public.invitation (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    id uuid NOT NULL,
    email text COLLATE "C" NOT NULL CHECK (email = lower(email)),
    role text NOT NULL CHECK (role IN ('VIEWER', 'ANALYST', 'ENGINEER', 'ADMIN')),
    invited_by text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT invitation_id_key UNIQUE (id),
    CONSTRAINT invitation_email_key UNIQUE (organization_id, email)
);

ALTER TABLE public.audit ADD address text COLLATE "C";

GRANT SELECT, INSERT, UPDATE, DELETE ON public.logout, public.invitation TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("""
ALTER TABLE public.audit DROP address;
DROP TABLE public.invitation;
ALTER TABLE public.organization DROP identity_provider;
DROP TABLE public.logout;
    """)
