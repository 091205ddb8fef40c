"""Who may see and forget what: policies for readers of reports, hashes out of sight, no more grants than are used."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# What reports may see, of one organization. sql/schema/dataset.sql has the tables of the datasets. Not `received`: what
# has policies takes no COPY, by which records come in.
REPORTED = (
    "approval", "audit", "change_request", "contract", "dataset", "dataset_transition", "membership", "quarantine",
    "request_event", "sync_run", "synchronization",
)  # fmt: skip
POLICIES = "".join(
    f"""
ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY service ON public.{table} TO vanguard_app USING (TRUE) WITH CHECK (TRUE);
CREATE POLICY reader ON public.{table} FOR SELECT TO vanguard_read
    USING ({column} = (SELECT public.reader_organization()));
GRANT SELECT ON public.{table} TO vanguard_read;
"""
    for table, column in (("organization", "id"), *((table, "organization_id") for table in REPORTED))
)
WITHOUT_POLICIES = "".join(
    f"""
DROP POLICY reader ON public.{table};
DROP POLICY service ON public.{table};
ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.{table} FROM vanguard_read;
"""
    for table in ("organization", *REPORTED)
)
# What no statement does, and no lock asks for: tests/test_roles.py compares. Of what was received, only functions do.
UNUSED = {
    "DELETE": ("organization", "workspace", "kept_answers", "synchronization", "approval", "request_event", "received"),
    "UPDATE": ("contract", "request_event"),
}

# The service verifies a password by the hash of the one account that it is about, and lists none.
PASSWORDS = """
REVOKE ALL ON public.account FROM vanguard_app;
GRANT SELECT (id, email, name, operator, created_at), INSERT (id, email, name, password_hash), UPDATE (name), DELETE
    ON public.account TO vanguard_app;
CREATE FUNCTION public.password_of(email text) RETURNS TABLE (account_id text, password_hash text)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.id, a.password_hash FROM public.account AS a WHERE a.email = $1
$$;
CREATE FUNCTION public.set_password(account text, hash text, replaced text) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE public.account AS a
       SET password_hash = $2
     WHERE a.id = $1 AND ($3 IS NULL OR a.password_hash = $3)
    RETURNING a.id
$$;
-- Which nobody changes until the transaction ends.
CREATE FUNCTION public.hold_password(account text) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.password_hash FROM public.account AS a WHERE a.id = $1 FOR SHARE
$$;
REVOKE ALL ON FUNCTION public.password_of(text), public.set_password(text, text, text), public.hold_password(text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.password_of(text), public.set_password(text, text, text), public.hold_password(text)
    TO vanguard_app;
"""

AUDIT = """
CREATE OR REPLACE FUNCTION public.forget_audit(organization text, earlier timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
    bound timestamptz := {before};
BEGIN
    DELETE FROM public.audit AS a
     WHERE a.organization_id = organization
       AND a.id IN (SELECT o.id FROM public.audit AS o
                     WHERE o.organization_id = organization AND o.at < bound
                     ORDER BY o.at, o.id
                     LIMIT most);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
"""
FEED = """
CREATE OR REPLACE FUNCTION public.forget_feed(organization text, earlier timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
    bound timestamptz := {before};
BEGIN
    WITH oldest AS MATERIALIZED (
        SELECT f.number, f.at
          FROM public.feed AS f
         WHERE f.organization_id = organization
         ORDER BY f.number
         LIMIT most
    )
    DELETE FROM public.feed AS f
     WHERE f.organization_id = organization
       AND f.number >= (SELECT min(o.number) FROM oldest AS o)
       AND f.number <= (SELECT max(o.number) FROM oldest AS o)
       AND f.number < coalesce((SELECT min(o.number) FROM oldest AS o WHERE o.at >= bound), 9223372036854775807);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
"""
# Records as they were received, of all organizations: what a run still has to take stays, however long it waits. Each
# dataset's oldest by the primary key, and those again by their place: nobody changes a record that was received, and a
# join by keys would read all of them. Those of a dataset without contracts go at once, if it was never promoted.
RECEIVED = """
CREATE FUNCTION public.forget_received(earlier timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
    bound timestamptz := least(earlier, public.kept_since('received'));
BEGIN
    WITH whose AS (
        SELECT DISTINCT t.organization_id, t.dataset FROM public.dataset_transition AS t
    ), awaited AS (
        SELECT s.organization_id, split_part(s.dataset, '@', 1) AS dataset,
               min((s.parameters ->> 'since')::timestamptz) AS since
          FROM public.sync_run AS s
         WHERE s.kind IN ('ingest', 'replay', 'backfill')
           AND s.state IN ('requested', 'running')
         GROUP BY s.organization_id, split_part(s.dataset, '@', 1)
    ), old AS (
        SELECT o.place
          FROM whose AS w
          LEFT JOIN awaited AS a ON a.organization_id = w.organization_id AND a.dataset = w.dataset
         CROSS JOIN LATERAL (
                   SELECT r.ctid AS place
                     FROM public.received AS r
                    WHERE r.organization_id = w.organization_id AND r.dataset = w.dataset
                      AND r.received_at < least(bound, a.since)
                    ORDER BY r.received_at, r.run_id, r.line
                    LIMIT most
               ) AS o
         LIMIT most
    )
    DELETE FROM public.received AS r
     WHERE r.ctid = ANY (ARRAY(SELECT o.place FROM old AS o));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
CREATE FUNCTION public.empty_received(organization text, name text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM public.received AS r
     WHERE r.organization_id = $1
       AND r.dataset = $2
       AND NOT EXISTS (SELECT FROM public.contract AS c WHERE c.organization_id = $1 AND c.dataset = $2)
       AND NOT EXISTS (SELECT FROM public.dataset_transition AS t
                        WHERE t.organization_id = $1 AND t.dataset = $2 AND t.action = 'promote')
$$;
REVOKE ALL ON FUNCTION public.forget_received(timestamptz, bigint), public.empty_received(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.forget_received(timestamptz, bigint), public.empty_received(text, text)
    TO vanguard_app;
"""
FORGETTING = (
    AUDIT.format(before="least(earlier, public.kept_since('audit'))")
    + FEED.format(before="least(earlier, public.kept_since('feed'))")
    + RECEIVED
)
FORGETTING_BEFORE = AUDIT.format(before="earlier") + FEED.format(before="earlier")


def upgrade() -> None:
    # reader. Which organization a login role sees as a member of vanguard_read; written by the owner alone.
    # retention. Days within which the service can forget nothing of a kind; written by the owner alone: `vanguard
    # migrate` stores its settings there. Of a kind that is not there nothing can be forgotten.
    op.execute("""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vanguard_read') THEN
        CREATE ROLE vanguard_read NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE insufficient_privilege USING MESSAGE =
            'the role vanguard_read is not there, and this one may not make it. Have somebody who may say: '
            'CREATE ROLE vanguard_read NOLOGIN; GRANT vanguard_read TO ' || quote_ident(current_user)
            || ' WITH ADMIN OPTION';
END
$$;

CREATE TABLE public.reader (
    role_name text COLLATE "C" PRIMARY KEY,
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE
);
-- Not current_user: SET ROLE changes that, and nobody but a superuser changes this.
CREATE FUNCTION public.reader_organization() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN (SELECT r.organization_id FROM public.reader AS r WHERE r.role_name = session_user::text COLLATE "C");
REVOKE ALL ON FUNCTION public.reader_organization() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.reader_organization() TO vanguard_read;
GRANT USAGE ON SCHEMA public TO vanguard_read;
-- The grant that goes with it; of the owner's rights, not of whoever made this.
CREATE FUNCTION public.let_read(role_name text, allowed boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF allowed THEN
        EXECUTE format('GRANT vanguard_read TO %I', role_name);
    ELSIF EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role_name) THEN
        EXECUTE format('REVOKE vanguard_read FROM %I', role_name);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION public.let_read(text, boolean) FROM PUBLIC;

-- Names of members, for reports that tell who: accounts themselves are nobody's but the service's.
CREATE VIEW public.person WITH (security_barrier) AS
SELECT m.organization_id, a.id, a.name
  FROM public.membership AS m
  JOIN public.account AS a ON a.id = m.account_id
 WHERE m.organization_id = (SELECT public.reader_organization());
GRANT SELECT ON public.person TO vanguard_read;

CREATE TABLE public.retention (
    kind text COLLATE "C" PRIMARY KEY,
    days integer NOT NULL
);
INSERT INTO public.retention (kind, days) VALUES ('audit', 3650), ('feed', 7), ('history', 730), ('received', 30);
GRANT SELECT ON public.retention TO vanguard_app;
-- What is from before may be forgotten, by the database's own clock.
CREATE FUNCTION public.kept_since(kind text) RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN coalesce(
        (SELECT now() - make_interval(days => r.days) FROM public.retention AS r WHERE r.kind = kept_since.kind),
        '-infinity');
REVOKE ALL ON FUNCTION public.kept_since(text) FROM PUBLIC;
    """)
    op.execute(POLICIES)
    op.execute(FORGETTING)
    op.execute(PASSWORDS)
    op.execute(
        "".join(
            f"REVOKE {privilege} ON {', '.join(f'public.{table}' for table in tables)} FROM vanguard_app;\n"
            for privilege, tables in UNUSED.items()
        )
    )
    op.execute("""
REVOKE UPDATE ON public.dataset_transition FROM vanguard_app;
GRANT UPDATE (undone_at) ON public.dataset_transition TO vanguard_app;
    """)


def downgrade() -> None:
    # The role stays: it belongs to the server. The datasets' policies for it go with the function that they ask.
    op.execute(
        "".join(
            f"GRANT {privilege} ON {', '.join(f'public.{table}' for table in tables)} TO vanguard_app;\n"
            for privilege, tables in UNUSED.items()
        )
    )
    op.execute(FORGETTING_BEFORE)
    op.execute(WITHOUT_POLICIES)
    op.execute("""
GRANT UPDATE ON public.dataset_transition TO vanguard_app;
DROP FUNCTION public.set_password(text, text, text), public.password_of(text), public.hold_password(text);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.account TO vanguard_app;
DROP FUNCTION public.forget_received(timestamptz, bigint), public.empty_received(text, text), public.kept_since(text);
DROP TABLE public.retention;
DROP VIEW public.person;
DROP FUNCTION public.let_read(text, boolean);
DROP FUNCTION public.reader_organization() CASCADE;
DROP TABLE public.reader;
REVOKE USAGE ON SCHEMA public FROM vanguard_read;
-- Own datasets' schemas are made anew by whichever release migrates next: what went with the function is missing there.
UPDATE public.contract SET storage = '';
    """)
