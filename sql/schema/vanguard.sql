-- Functions that every dataset shares: typed values out of JSON, the fold of layers, the three-way merge of cells.
--
-- The readers (as_*) yield NULL for what does not parse, so that a bad value from upstream never stops a load.
-- All are IMMUTABLE and PARALLEL SAFE: generated columns and images are made of them. Loaded by `vanguard migrate`,
-- again at every run, so this file is what the database has.

CREATE SCHEMA IF NOT EXISTS vanguard;
GRANT USAGE ON SCHEMA vanguard TO vanguard_app;

-- The states of a change, by the names that app/contracts/states.py has for them. They are constants to the planner:
-- `c.state = ANY (vanguard.unfinished())` finds the partial index of those states, in generic plans, too.
-- CHECKs and the predicates of indexes list the states themselves: what is stored does not follow a function that
-- changes.

-- What `pending` is folded of.
CREATE OR REPLACE FUNCTION vanguard.unfinished() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['in_review', 'committed', 'syncing', 'conflict', 'sync_error'];

-- To be pushed, or being pushed.
CREATE OR REPLACE FUNCTION vanguard.outbox() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['committed', 'syncing'];

-- Refused by upstream: a person has to look.
CREATE OR REPLACE FUNCTION vanguard.refused() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['conflict', 'sync_error'];

-- Nothing comes after these.
CREATE OR REPLACE FUNCTION vanguard.ended() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['synced', 'rejected', 'discarded'];

-- The readers take the document and the field's name, and are written so that PostgreSQL inlines them: with a name that
-- is a constant, nothing of them is called but built-in functions. A parameter that is no column or constant may stand
-- once only in what is inlined.

-- Text that fits a B-tree entry: at most 500 bytes.
CREATE OR REPLACE FUNCTION vanguard.as_text(document jsonb, field text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(document -> field) = 'string' AND octet_length(document ->> field) <= 500
                THEN document ->> field END;

-- Text of any length, for fields without an index.
CREATE OR REPLACE FUNCTION vanguard.as_long_text(document jsonb, field text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(document -> field) = 'string' THEN document ->> field END;

-- A number below 1e30 with at most 20 decimals; what is longer has no business in a plan and would not fit an index.
-- One of at most 20 characters is such a number, and need not be looked at.
CREATE OR REPLACE FUNCTION vanguard.as_number(document jsonb, field text) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(document -> field) = 'number' THEN
        CASE WHEN octet_length(document ->> field) <= 20
                  OR abs((document -> field)::numeric) < 1e30 AND scale((document -> field)::numeric) <= 20
             THEN (document -> field)::numeric END
    END;

CREATE OR REPLACE FUNCTION vanguard.as_integer(document jsonb, field text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(document -> field) = 'number' THEN
        CASE WHEN abs((document -> field)::numeric) <= 9007199254740991
                  AND (document -> field)::numeric = trunc((document -> field)::numeric)
             THEN (document -> field)::bigint END
    END;

CREATE OR REPLACE FUNCTION vanguard.as_boolean(document jsonb, field text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE document -> field WHEN 'true'::jsonb THEN TRUE WHEN 'false'::jsonb THEN FALSE END;

-- Whether the field is a day of the Gregorian calendar, YYYY-MM-DD, from year 1 to 9999: whether it looks as the day
-- does that JSON path takes it for. JSON path alone takes much more; later years have more digits, earlier ones an era.
CREATE OR REPLACE FUNCTION vanguard.has_date(document jsonb, field text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(
        jsonb_path_query_first(document, ('$."' || field || '".datetime("YYYY-MM-DD")')::jsonpath, '{}', TRUE) #>> '{}'
            = (document ->> field) COLLATE "C"
        AND octet_length(document ->> field) = 10,
        FALSE);

-- A cast from text would depend on DateStyle and not be immutable; make_date raises for a day that is none.
CREATE OR REPLACE FUNCTION vanguard.as_date(document jsonb, field text) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN vanguard.has_date(document, field) THEN
        make_date(left(document ->> field, 4)::int, substr(document ->> field, 6, 2)::int,
                  right(document ->> field, 2)::int)
    END;

-- Whether the field is a moment in UTC, YYYY-MM-DDTHH:MM:SSZ with up to six digits of a fraction, of the Gregorian
-- calendar, from year 1 to 9999: months of 31 days, of 30, February, and its last day in leap years.
CREATE OR REPLACE FUNCTION vanguard.has_datetime(document jsonb, field text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(
        octet_length(document ->> field) BETWEEN 20 AND 27
        AND (document ->> field) COLLATE "C" ~ (
            '^([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)'
            '|02-(0[1-9]|1[0-9]|2[0-8]))'
            '|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)'
            'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?Z$')
        AND left(document ->> field, 4) <> '0000',
        FALSE);

-- Neither a cast from text nor make_timestamptz() is immutable, for both look at the session's time zone; these are.
CREATE OR REPLACE FUNCTION vanguard.as_datetime(document jsonb, field text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN vanguard.has_datetime(document, field) THEN
        make_timestamp(left(document ->> field, 4)::int, substr(document ->> field, 6, 2)::int,
                       substr(document ->> field, 9, 2)::int, substr(document ->> field, 12, 2)::int,
                       substr(document ->> field, 15, 2)::int, rtrim(substr(document ->> field, 18), 'Z')::float8)
            AT TIME ZONE 'UTC'
    END;

-- A moment as documents have it, whatever time zone and date style the session has.
CREATE OR REPLACE FUNCTION vanguard.datetime_text(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN btrim(to_json(moment AT TIME ZONE 'UTC')::text, '"') || 'Z';

-- Text without regard to case, the same on every server: Unicode's canonical caseless form, composed. PostgreSQL 18 has
-- casefold(). Before, it is lower() with the best Unicode collation that the server has, and then those letters are put
-- right whose fold is another one. Each call asks which server it is: the dump of an older one can be restored on a
-- newer one, which may lack that collation.
--
-- Most text is ASCII. Inert are the letters of today's European languages, dashes, quotation marks and the euro sign:
-- side by side, too, their fold is composed as it is.
--
-- The comment says by what this server folds: `vanguard migrate` makes anew what was folded by something else.
DO $$
DECLARE
    -- A letter, and its fold behind it.
    inert CONSTANT text := E'\u00b5\u03bc \u00dfss \u0149\u02bcn \u017fs \u03c2\u03c3';
    others CONSTANT text :=
        -- Greek
        E'\u0345\u03b9 \u03d0\u03b2 \u03d1\u03b8 \u03d5\u03c6 \u03d6\u03c0 \u03f0\u03ba \u03f1\u03c1 \u03f5\u03b5 '
        -- Cyrillic
        '\u1c80\u0432 \u1c81\u0434 \u1c82\u043e \u1c83\u0441 \u1c84\u0442 \u1c85\u0442 \u1c86\u044a \u1c87\u0463 '
        '\u1c88\ua64b '
        -- Latin and Armenian, as ligatures
        '\u1e9aa\u02be \ufb00ff \ufb01fi \ufb02fl \ufb03ffi \ufb04ffl \ufb05st \ufb06st \u0587\u0565\u0582 '
        '\ufb13\u0574\u0576 \ufb14\u0574\u0565 \ufb15\u0574\u056b \ufb16\u057e\u0576 \ufb17\u0574\u056d';
    best text;
    best_version text;
    letter text;
    lowered text;
    mended text := 'folded';
BEGIN
    IF getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'The encoding of this database is %, and has to be UTF8.', getdatabaseencoding();
    END IF;
    SELECT collname, coalesce(' ' || pg_collation_actual_version(oid), '') INTO best, best_version
      FROM pg_collation
     WHERE collname IN ('pg_unicode_fast', 'pg_c_utf8', 'und-x-icu', 'C.utf8', 'default')
       AND collencoding IN (-1, pg_char_to_encoding('UTF8'))
     ORDER BY array_position(ARRAY['pg_unicode_fast', 'pg_c_utf8', 'und-x-icu', 'C.utf8', 'default'], collname::text)
     LIMIT 1;
    lowered := format('lower(folded COLLATE %I)', best);
    FOREACH letter IN ARRAY string_to_array(inert, ' ') LOOP
        lowered := format('replace(%s, %L, %L)', lowered, left(letter, 1), substr(letter, 2));
    END LOOP;
    FOREACH letter IN ARRAY string_to_array(others, ' ') LOOP
        mended := format('replace(%s, %L, %L)', mended, left(letter, 1), substr(letter, 2));
    END LOOP;
    EXECUTE format(
        $definition$
        CREATE OR REPLACE FUNCTION vanguard.fold(value text) RETURNS text
            LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
        AS $body$
        DECLARE
            inert boolean;
            folded text COLLATE "C";
        BEGIN
            IF octet_length(value) = char_length(value) THEN
                RETURN lower(value COLLATE "C");
            END IF;
            inert := value COLLATE "C" !~ '[^\u0001-\u012f\u0131-\u017f'
                '\u0386\u0388-\u038f\u0391-\u03af\u03b1-\u03ce\u0400-\u0481\u048a-\u052f\u2010-\u205e\u20ac]';
            folded := CASE WHEN inert THEN value ELSE normalize(value, NFD) END;
            IF current_setting('server_version_num')::integer >= 180000 THEN
                folded := casefold(folded COLLATE pg_unicode_fast);
            ELSE
                folded := %s;
                IF NOT inert THEN
                    folded := %s;
                    -- Cherokee folds to its capitals.
                    IF folded ~ '[\u13f8-\u13fd\uab70-\uabbf]' THEN
                        folded := translate(folded, %L, %L);
                    END IF;
                END IF;
            END IF;
            RETURN CASE WHEN inert THEN folded ELSE normalize(folded, NFC) END;
        END
        $body$
        $definition$,
        lowered, mended,
        (SELECT string_agg(chr(n), '' ORDER BY n) FROM generate_series(x'ab70'::integer, x'abbf'::integer) AS n)
            || E'\u13f8\u13f9\u13fa\u13fb\u13fc\u13fd',
        (SELECT string_agg(chr(n), '' ORDER BY n) FROM generate_series(x'13a0'::integer, x'13f5'::integer) AS n));
    EXECUTE format(
        'COMMENT ON FUNCTION vanguard.fold(text) IS %L',
        (SELECT format('%s%s of PostgreSQL %s, %s', best, best_version,
                       current_setting('server_version_num')::integer / 10000, md5(p.prosrc))
           FROM pg_proc AS p
          WHERE p.oid = 'vanguard.fold(text)'::regprocedure));
END
$$;

-- The LIKE pattern that finds a word anywhere, without regard to case.
CREATE OR REPLACE FUNCTION vanguard.search_pattern(word text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '%' || replace(replace(replace(vanguard.fold(word), '\', '\\'), '%', '\%'), '_', '\_') || '%';

-- One layer over a document: an insert brings a row or completes one that is there, an update needs one, a delete takes
-- it away. NULL is "no row".
CREATE OR REPLACE FUNCTION vanguard.lay_over(document jsonb, op text, delta jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE op WHEN 'insert' THEN coalesce(document, '{}') || delta WHEN 'update' THEN document || delta END;

DO $$
BEGIN
    IF to_regprocedure('vanguard.layers(text, jsonb)') IS NULL THEN
        -- vanguard.layers(op, delta ORDER BY id): the document that the layers make of nothing.
        CREATE AGGREGATE vanguard.layers(op text, delta jsonb)
            (SFUNC = vanguard.lay_over, STYPE = jsonb, PARALLEL = SAFE);
    END IF;
END
$$;

-- Two layers as one, {op, delta}. After a delete nothing but an insert counts.
CREATE OR REPLACE FUNCTION vanguard.fold_layer(folded jsonb, op text, delta jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN op = 'delete' THEN '{"op": "delete", "delta": {}}'::jsonb
        WHEN folded IS NULL OR op = 'insert' THEN jsonb_build_object('op', op, 'delta', delta)
        WHEN folded ->> 'op' = 'delete' THEN folded
        ELSE jsonb_build_object('op', folded ->> 'op', 'delta', (folded -> 'delta') || delta)
    END;

DO $$
BEGIN
    IF to_regprocedure('vanguard.fold_layers(text, jsonb)') IS NULL THEN
        -- vanguard.fold_layers(op, delta ORDER BY id): unfinished changes as one layer.
        CREATE AGGREGATE vanguard.fold_layers(op text, delta jsonb)
            (SFUNC = vanguard.fold_layer, STYPE = jsonb, PARALLEL = SAFE);
    END IF;
END
$$;

DO $$
BEGIN
    IF to_regtype('vanguard.stepped_row') IS NULL THEN
        -- What a request changed in a draft: the cells that it was about as they were and as they are then, with the
        -- base of each; all of the draft where its op is another one. An op is NULL where there is no draft, and a
        -- session where the draft is of none: it is a session's id, or a word of the client's.
        CREATE TYPE vanguard.stepped_row AS (
            row_key text,
            from_op text, from_delta jsonb, from_base jsonb, from_session text,
            to_op text, to_delta jsonb, to_base jsonb, to_session text
        );
    END IF;
END
$$;

-- The fields of a document, null where absent.
CREATE OR REPLACE FUNCTION vanguard.pick(document jsonb, fields jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_object_agg(field, coalesce(document -> field, 'null')), '{}')
              FROM jsonb_array_elements_text(fields) AS field);

-- Whether two documents have another value in one of these fields; names: {name in the one: name in the other}. A field
-- that is not there is null.
CREATE OR REPLACE FUNCTION vanguard.differs(one jsonb, other jsonb, names jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN EXISTS (SELECT
                     FROM jsonb_each_text(names) AS n (was, now)
                    WHERE coalesce(one -> n.was, 'null') IS DISTINCT FROM coalesce(other -> n.now, 'null'));

-- The fields that a document has of these.
CREATE OR REPLACE FUNCTION vanguard.present(document jsonb, fields jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_object_agg(field, document -> field), '{}')
              FROM jsonb_array_elements_text(fields) AS field
             WHERE document ? field);

-- The fields whose base a draft of `delta` needs: its own, with those of the same atomic groups, and of the whole row
-- where one of them is merged by it.
-- cells: how fields merge, for those alone that are no cell of their own, as the contract declares it. Of an atomic
-- group {"cell": its name, "fields": [all of its fields]}; of a field that is merged by the row {"policy": "row",
-- "cell": its own name, "fields": [all that can be edited]}; of one where theirs wins {"policy": "theirs"}.
CREATE OR REPLACE FUNCTION vanguard.touched(delta jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_agg(DISTINCT field), '[]')
              FROM jsonb_object_keys(delta) AS name
             CROSS JOIN LATERAL jsonb_array_elements_text(
                            coalesce(cells -> name -> 'fields', jsonb_build_array(name))) AS field);

-- The fields that `delta` writes, together with those of the same atomic groups: of what is merged by the row itself
-- alone.
CREATE OR REPLACE FUNCTION vanguard.written(delta jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_agg(DISTINCT field), '[]')
              FROM jsonb_object_keys(delta) AS name
             CROSS JOIN LATERAL jsonb_array_elements_text(
                            CASE WHEN cells -> name ? 'fields' AND NOT cells -> name ? 'policy'
                                 THEN cells -> name -> 'fields' ELSE jsonb_build_array(name) END) AS field);

-- The fields whose base moves where cells of a draft of `delta` are decided: what the draft writes besides is to be
-- decided by itself.
CREATE OR REPLACE FUNCTION vanguard.settled(decided jsonb, delta jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_agg(field), '[]')
              FROM jsonb_array_elements_text(vanguard.touched(decided, cells)) AS field
             WHERE vanguard.written(decided, cells) ? field
                OR NOT vanguard.written(delta, cells) ? field);

-- The three-way merge of cells; an atomic group is one cell, absent equals null.
-- Returns {"apply": fields that change theirs, "conflicts": [{field, base, theirs, mine}]}:
-- mine = theirs: nothing to do; theirs = base: mine; mine = base: theirs stays; else a conflict, but where theirs wins.
-- What is merged by the row is a cell together with all that base has of the row and mine leaves alone.
CREATE OR REPLACE FUNCTION vanguard.three_way(base jsonb, theirs jsonb, mine jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH cell AS (
        SELECT DISTINCT coalesce(cells -> name ->> 'cell', name) AS name,
               CASE WHEN cells -> name ->> 'policy' = 'row'
                    THEN (SELECT jsonb_agg(field)
                            FROM jsonb_array_elements_text(cells -> name -> 'fields') AS field
                           WHERE field = name
                              OR base ? field AND NOT vanguard.written(mine, cells) ? field)
                    ELSE cells -> name -> 'fields' END AS members
          FROM jsonb_object_keys(mine) AS name
    ), sides AS (
        SELECT name,
               members,
               CASE WHEN members IS NULL THEN coalesce(base -> name, 'null')
                    ELSE vanguard.pick(base, members) END AS base,
               CASE WHEN members IS NULL THEN coalesce(theirs -> name, 'null')
                    ELSE vanguard.pick(theirs, members) END AS theirs,
               CASE WHEN members IS NULL THEN mine -> name ELSE vanguard.pick(base || mine, members) END AS mine
          FROM cell
    ), judged AS (
        SELECT name, members, base, theirs, mine,
               CASE WHEN mine = theirs THEN 'same'
                    WHEN theirs = base THEN 'mine'
                    WHEN mine = base OR cells -> name ->> 'policy' = 'theirs' THEN 'theirs'
                    ELSE 'conflict' END AS outcome
          FROM sides
    )
    SELECT jsonb_build_object(
               'apply',
               coalesce(
                   (SELECT jsonb_object_agg(field.key, field.value)
                      FROM judged AS j
                     CROSS JOIN LATERAL jsonb_each(
                                    CASE WHEN j.members IS NULL THEN jsonb_build_object(j.name, j.mine)
                                         ELSE j.mine END) AS field
                     WHERE j.outcome = 'mine'
                       AND field.value IS DISTINCT FROM coalesce(three_way.theirs -> field.key, 'null')),
                   '{}'),
               'conflicts',
               coalesce(
                   (SELECT jsonb_agg(jsonb_build_object('field', j.name, 'base', j.base, 'theirs', j.theirs,
                                                        'mine', j.mine) ORDER BY j.name)
                      FROM judged AS j
                     WHERE j.outcome = 'conflict'),
                   '[]'));
END;

-- Whether theirs has every field of base, with its value: nobody else changed what the base is of. A field that is
-- absent in one and null in the other is left to the three-way merge.
CREATE OR REPLACE FUNCTION vanguard.unchanged(theirs jsonb, base jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN theirs || base = theirs;

-- The ids of a user's open sessions: those that are submitted, or may be edited still.
CREATE OR REPLACE FUNCTION vanguard.open_sessions(organization text, dataset text, caller text, at timestamptz)
    RETURNS text[]
    LANGUAGE sql STABLE
    RETURN ARRAY(
        SELECT s.id
          FROM public.edit_session AS s
         WHERE s.organization_id = open_sessions.organization
           AND s.dataset = open_sessions.dataset
           AND s.user_id = open_sessions.caller
           AND (s.state = 'submitted' OR s.state IN ('active', 'preview') AND s.expires_at > open_sessions.at));

-- What a person is called who belongs to an organization now; NULL for everybody else, so that nobody learns of a
-- stranger by naming an id. PL/pgSQL keeps the plan, where SQL would plan anew for every statement that calls it.
CREATE OR REPLACE FUNCTION vanguard.name_of(organization text, person text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    AS $$
    BEGIN
        RETURN (
            SELECT a.name
              FROM public.membership AS m
              JOIN public.account AS a ON a.id = m.account_id
             WHERE m.organization_id = name_of.organization
               AND m.account_id = name_of.person
        );
    END
    $$;

-- The same of each of them, in their order.
CREATE OR REPLACE FUNCTION vanguard.names_of(organization text, people text[]) RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT coalesce(array_agg(vanguard.name_of(names_of.organization, given.person) ORDER BY given.place),
                        CASE WHEN names_of.people IS NOT NULL THEN '{}'::text[] END)
          FROM unnest(names_of.people) WITH ORDINALITY AS given (person, place)
    $$;

-- What becomes of a draft {op, delta, base, gone, skipped} when a step of its row is undone or redone: the draft that
-- the step found, or made, is put back. Cell by cell, an atomic group as one, where both are drafts of the same kind;
-- else as a whole. A cell that is no longer as it was expected stays, and is named in skipped; null is the whole row.
-- gone: the row was deleted under the draft, whose base is all there is of it. cells: as in vanguard.touched.
CREATE OR REPLACE FUNCTION vanguard.put_back(
    draft jsonb, expected_op text, expected_delta jsonb, expected_base jsonb,
    put_op text, put_delta jsonb, put_base jsonb, cells jsonb
) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH given AS (
        SELECT coalesce(draft ->> 'op', 'update') AS op,
               coalesce(expected_delta, '{}') AS expected,
               coalesce(expected_base, '{}') AS expected_base,
               coalesce(put_delta, '{}') AS put,
               coalesce(put_base, '{}') AS base
    ), changed AS (
        SELECT name,
               coalesce(cells -> name ->> 'cell', name) AS cell,
               (draft -> 'delta' -> name) IS NOT DISTINCT FROM (g.expected -> name)
               AND g.op = coalesce(expected_op, put_op, 'update') AS fits
          FROM given AS g
         CROSS JOIN LATERAL jsonb_object_keys(g.expected || g.put) AS name
         WHERE (g.expected -> name) IS DISTINCT FROM (g.put -> name)
            -- Written over a conflict with the value that it had, a cell has another base alone.
            OR EXISTS (SELECT FROM jsonb_array_elements_text(
                                       coalesce(cells -> name -> 'fields', jsonb_build_array(name))) AS field
                        WHERE coalesce(g.expected_base -> field, 'null') <> coalesce(g.base -> field, 'null'))
               AND g.expected ? name AND g.put ? name
    ), judged AS (
        SELECT c.name, bool_and(c.fits) OVER (PARTITION BY c.cell) AS fits FROM changed AS c
    ), turned AS (
        SELECT coalesce(array_agg(j.name) FILTER (WHERE j.fits), '{}') AS names,
               coalesce(jsonb_agg(j.name ORDER BY j.name) FILTER (WHERE NOT j.fits), '[]') AS skipped
          FROM judged AS j
    ), made AS (
        SELECT g.op, t.skipped,
               (draft -> 'delta') - t.names
               || (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                     FROM jsonb_each(g.put) AS field
                    WHERE field.key = ANY (t.names)) AS delta,
               -- What stays drafted needs its base, though a cell of the row goes that had it, too.
               CASE WHEN (draft ->> 'gone')::boolean THEN draft -> 'base'
                    ELSE (draft -> 'base') - b.names
                         || vanguard.present(
                                draft -> 'base', vanguard.touched((draft -> 'delta') - t.names, cells)) END
               || (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                     FROM jsonb_each(g.base) AS field
                    WHERE field.key = ANY (b.names)) AS base
          FROM given AS g
         CROSS JOIN turned AS t
         CROSS JOIN LATERAL (
                   SELECT ARRAY(SELECT field
                                  FROM unnest(t.names) AS name
                                 CROSS JOIN LATERAL jsonb_array_elements_text(
                                                coalesce(cells -> name -> 'fields', jsonb_build_array(name))) AS field
                          ) AS names
               ) AS b
    )
    SELECT CASE
               WHEN coalesce(expected_op, 'update') = coalesce(put_op, 'update')
                    AND coalesce(expected_op, 'update') <> 'delete'
                   THEN (SELECT draft || jsonb_build_object(
                                    'op', CASE WHEN m.op = 'update' AND m.delta = '{}' THEN NULL ELSE m.op END,
                                    'delta', m.delta, 'base', CASE WHEN m.delta = '{}' AND m.op = 'update' THEN '{}'
                                                                   ELSE m.base END,
                                    'skipped', (draft -> 'skipped') || m.skipped)
                           FROM made AS m)
               WHEN (draft ->> 'op') IS NOT DISTINCT FROM expected_op
                   THEN draft || jsonb_build_object('op', put_op, 'delta', coalesce(put_delta, '{}'),
                                                    'base', coalesce(put_base, '{}'))
               ELSE draft || jsonb_build_object('skipped', (draft -> 'skipped') || '[null]')
           END;
END;

-- A function of the draft that there is, for the first of its steps, and then of what the steps before have made of it.
CREATE OR REPLACE FUNCTION vanguard.turn(
    turned jsonb, draft jsonb, expected_op text, expected_delta jsonb, expected_base jsonb,
    put_op text, put_delta jsonb, put_base jsonb, cells jsonb
) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN vanguard.put_back(coalesce(turned, draft), expected_op, expected_delta, expected_base,
                             put_op, put_delta, put_base, cells);

DO $$
BEGIN
    IF to_regprocedure('vanguard.turn_all(jsonb, text, jsonb, jsonb, text, jsonb, jsonb, jsonb)') IS NULL THEN
        -- vanguard.turn_all(draft, ... ORDER BY step): what the steps of a row make of its draft.
        CREATE AGGREGATE vanguard.turn_all(
            draft jsonb, expected_op text, expected_delta jsonb, expected_base jsonb,
            put_op text, put_delta jsonb, put_base jsonb, cells jsonb
        ) (SFUNC = vanguard.turn, STYPE = jsonb, PARALLEL = SAFE);
    END IF;
END
$$;

-- The conflicts of one row as the API shows them: [{id, field, base, theirs, mine}].
CREATE OR REPLACE FUNCTION vanguard.conflicts(key text, base jsonb, theirs jsonb, mine jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('id', key) || conflict ORDER BY place), '[]')
              FROM jsonb_array_elements(vanguard.three_way(base, theirs, mine, cells) -> 'conflicts')
                   WITH ORDINALITY AS found (conflict, place));

-- Whether two rows are the same, or both none: a field that is absent counts as null.
CREATE OR REPLACE FUNCTION vanguard.same_row(one jsonb, other jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN jsonb_strip_nulls(one) IS NOT DISTINCT FROM jsonb_strip_nulls(other);

-- What a change comes to over theirs: {"op": null where there is nothing to do, "delta", "conflicts": [{field, base,
-- theirs, mine}]}; a conflict of the whole row has the field null.
--
-- | base | theirs | mine | op, or conflict |
-- | row | row | edited | update with the cells of mine that differ, conflicts cell by cell |
-- | row | deleted | edited | conflict of the whole row |
-- | row | edited | deleted | conflict of the whole row |
-- | row | deleted | deleted | nothing to do |
-- | - | inserted | inserted | cells that differ: conflict; none: nothing to do |
CREATE OR REPLACE FUNCTION vanguard.judge(op text, base jsonb, theirs jsonb, delta jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN op = 'delete' AND theirs IS NULL THEN '{"op": null, "delta": {}, "conflicts": []}'::jsonb
        WHEN op = 'delete' AND vanguard.same_row(theirs, base) THEN '{"op": "delete", "delta": {}, "conflicts": []}'
        WHEN op = 'delete' OR op = 'update' AND theirs IS NULL
            THEN jsonb_build_object('op', NULL, 'delta', '{}'::jsonb, 'conflicts', jsonb_build_array(
                     jsonb_build_object('field', NULL, 'base', base, 'theirs', theirs,
                                        'mine', CASE op WHEN 'update' THEN base || delta END)))
        WHEN theirs IS NULL THEN jsonb_build_object('op', op, 'delta', delta, 'conflicts', '[]'::jsonb)
        ELSE (SELECT jsonb_build_object('op', CASE WHEN m.merged -> 'apply' <> '{}' THEN 'update' END,
                                        'delta', m.merged -> 'apply', 'conflicts', m.merged -> 'conflicts')
                FROM (SELECT vanguard.three_way(base, theirs, delta, cells) AS merged OFFSET 0) AS m)
    END;

-- The cells of a change whose field a contract no longer has, as conflicts.
CREATE OR REPLACE FUNCTION vanguard.removed_fields(base jsonb, delta jsonb, fields text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN delta - fields = '{}' THEN '[]'::jsonb
                ELSE (SELECT jsonb_agg(jsonb_build_object(
                                           'field', field.key, 'base', coalesce(base -> field.key, 'null'),
                                           'theirs', 'field_removed', 'mine', field.value) ORDER BY field.key)
                        FROM jsonb_each(delta - fields) AS field)
           END;

-- What conflicts show as theirs, by field: all that a user who settles them has seen of it.
CREATE OR REPLACE FUNCTION vanguard.shown(conflicts jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_object_agg(cell.key, cell.value), '{}')
              FROM jsonb_array_elements(conflicts) AS conflict
             CROSS JOIN LATERAL jsonb_each(
                            -- A row and a group are objects, a cell is none; of a row that is gone nothing is shown.
                            CASE WHEN jsonb_typeof(conflict -> 'theirs') = 'object' THEN conflict -> 'theirs'
                                 WHEN conflict ->> 'field' IS NULL THEN '{}'
                                 ELSE jsonb_build_object(conflict ->> 'field', conflict -> 'theirs') END) AS cell);

-- What differs between two states of a row, NULL for none: [{field, before, after}] by field.
CREATE OR REPLACE FUNCTION vanguard.cells(before jsonb, after jsonb) RETURNS json
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(json_agg(json_build_object('field', name, 'before', before -> name, 'after', after -> name)
                                     ORDER BY name COLLATE "C"), '[]')
              FROM jsonb_object_keys(coalesce(before, '{}') || coalesce(after, '{}')) AS name
             WHERE coalesce(before -> name, 'null') <> coalesce(after -> name, 'null'));

-- Those fields that a delta writes again although they, or their whole row, stand in conflict, with the fields of the
-- same atomic groups, and with what the conflict shows of the row: a user who writes over a conflict has seen it.
CREATE OR REPLACE FUNCTION vanguard.written_again(conflicts jsonb, delta jsonb, cells jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_agg(DISTINCT field), '[]')
              FROM jsonb_object_keys(delta) AS name
             CROSS JOIN LATERAL jsonb_array_elements(conflicts) AS conflict
             CROSS JOIN LATERAL jsonb_array_elements_text(
                            CASE WHEN cells -> name ->> 'policy' = 'row' AND conflict ->> 'field' IS NOT NULL
                                 THEN to_jsonb(ARRAY(
                                          SELECT jsonb_object_keys(vanguard.shown(jsonb_build_array(conflict)))))
                                 ELSE coalesce(cells -> name -> 'fields', jsonb_build_array(name)) END) AS field
             WHERE coalesce(conflict ->> 'field', cells -> name ->> 'cell', name)
                   = coalesce(cells -> name ->> 'cell', name));

-- A time as the API writes it: UTC, ISO 8601, milliseconds.
CREATE OR REPLACE FUNCTION vanguard.utc(at timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
