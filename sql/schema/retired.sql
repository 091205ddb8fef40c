-- Functions of earlier releases, once no column is made of them any more: run after all datasets. A dataset whose
-- contract was not at hand keeps what it is made of.
DO $$
DECLARE
    former text;
BEGIN
    FOREACH former IN ARRAY ARRAY[
        'vanguard.as_text(jsonb)', 'vanguard.as_long_text(jsonb)', 'vanguard.as_number(jsonb)',
        'vanguard.as_integer(jsonb)', 'vanguard.as_boolean(jsonb)', 'vanguard.as_date(jsonb)',
        'pfa.actual_cost(text, numeric, numeric, date, date)',
        'pfa.incomplete(text, numeric, numeric, date, date, date, date)']
    LOOP
        BEGIN
            EXECUTE 'DROP FUNCTION IF EXISTS ' || former;
        EXCEPTION WHEN dependent_objects_still_exist THEN
            CONTINUE;
        END;
    END LOOP;
END
$$;
