"""Whatever changes what a user's view answers moves the dataset's revision or that user's workspace, and what moves
the dataset's revision is told by the feed, in the same transaction: held by triggers in every database of the tests,
for whatever the application writes. So is it that nobody holds more drafts than are counted.

A transaction that does not keep to it fails when it commits. What tests write by themselves, as the owner, is theirs.
"""

import psycopg

from app.contracts import Contract

AUDIT = """
CREATE SCHEMA audit;
CREATE TABLE audit.moved (transaction xid8, organization_id text, dataset text, user_id text);
CREATE INDEX ON audit.moved (transaction);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit.moved
    SELECT pg_current_xact_id(), NEW.organization_id, coalesce(to_jsonb(NEW) ->> 'dataset', to_jsonb(NEW) ->> 'name'),
           to_jsonb(NEW) ->> 'user_id';
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER UPDATE OF revision ON public.dataset
    FOR EACH ROW WHEN (NEW.revision > OLD.revision) EXECUTE FUNCTION audit.note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OF revision ON public.workspace
    FOR EACH ROW EXECUTE FUNCTION audit.note();
-- Arguments: the dataset's name, and whether a move of the user's workspace is enough.
CREATE FUNCTION audit.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    touched record;
BEGIN
    IF TG_OP = 'DELETE' THEN touched := OLD; ELSE touched := NEW; END IF;
    IF NOT EXISTS (SELECT FROM audit.moved AS m
                    WHERE m.transaction = pg_current_xact_id()
                      AND m.organization_id = touched.organization_id
                      AND m.dataset = TG_ARGV[0]
                      AND (m.user_id IS NULL
                           OR TG_ARGV[1]::boolean AND m.user_id = to_jsonb(touched) ->> 'user_id')) THEN
        RAISE EXCEPTION '% of % in %: no revision moved', TG_OP, touched.row_key, TG_RELID::regclass;
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION audit.hold_told() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.feed AS f
                    WHERE f.organization_id = NEW.organization_id
                      AND f.dataset = NEW.name
                      AND f.revision = NEW.revision) THEN
        RAISE EXCEPTION 'the feed does not tell revision % of %', NEW.revision, NEW.name;
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER hold_told AFTER UPDATE OF revision ON public.dataset
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('role') = 'vanguard_app' AND NEW.revision > OLD.revision)
    EXECUTE FUNCTION audit.hold_told();

-- Nobody holds more drafts than is counted, or it is known that it was not counted.
CREATE FUNCTION audit.hold_held() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    counted record;
    there record;
    place text;
BEGIN
    SELECT w.held_rows, w.held_bytes, w.held_known INTO counted
      FROM public.workspace AS w
     WHERE w.organization_id = NEW.organization_id AND w.dataset = NEW.dataset AND w.user_id = NEW.user_id;
    SELECT coalesce(d.schema_name, d.base) INTO place
      FROM public.dataset AS d
     WHERE d.organization_id = NEW.organization_id AND d.name = NEW.dataset;
    IF counted IS NULL OR place IS NULL OR NOT counted.held_known THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) AS rows, coalesce(sum(pg_column_size(x.delta || ''{}'')), 0) AS bytes
                      FROM %I.modification AS x WHERE x.organization_id = $1 AND x.user_id = $2', place)
       INTO there USING NEW.organization_id, NEW.user_id;
    IF counted.held_rows < there.rows OR counted.held_bytes < there.bytes THEN
        RAISE EXCEPTION '% has % rows and % bytes drafted in %, but only % and % are counted',
            NEW.user_id, there.rows, there.bytes, NEW.dataset, counted.held_rows, counted.held_bytes;
    END IF;
    RETURN NULL;
END
$$;
-- What tests write by themselves nobody has counted.
CREATE FUNCTION audit.doubt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE public.workspace SET held_known = FALSE WHERE dataset = TG_ARGV[0];
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER hold_held AFTER INSERT OR UPDATE ON public.workspace
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('role') = 'vanguard_app')
    EXECUTE FUNCTION audit.hold_held();
"""
HOLD = """
CREATE CONSTRAINT TRIGGER hold_writes AFTER INSERT OR DELETE ON {schema}.{table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (current_setting('role') = 'vanguard_app')
    EXECUTE FUNCTION audit.hold('{name}', {own});
CREATE CONSTRAINT TRIGGER hold_changes AFTER UPDATE ON {schema}.{table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('role') = 'vanguard_app' AND OLD IS DISTINCT FROM NEW)
    EXECUTE FUNCTION audit.hold('{name}', {own});
"""

DOUBT = """
CREATE TRIGGER doubt AFTER INSERT OR UPDATE ON {schema}.modification
    FOR EACH STATEMENT WHEN (current_setting('role') <> 'vanguard_app')
    EXECUTE FUNCTION audit.doubt('{name}');
"""


def hold_moves(url: str, contracts: tuple[Contract, ...]) -> None:
    """Put the triggers into a migrated database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(AUDIT)
        for contract in contracts:
            for table, own in (("mirror", "FALSE"), ("modification", "TRUE")):
                text = HOLD.format(schema=contract.schema, table=table, name=contract.name, own=own)
                connection.execute(text.encode())
            connection.execute(DOUBT.format(schema=contract.schema, name=contract.name).encode())
