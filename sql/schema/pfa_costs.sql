-- Costs of a PFA line: its computed columns. Money of one row, rounded to two decimals before anything sums it.
-- Rental: whole days / 30.44 * monthlyRate. Purchase: purchasePrice. What is missing makes the cost 0.

CREATE OR REPLACE FUNCTION pfa.cost(doc jsonb, first_day date, last_day date) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(CASE doc ->> 'source'
        WHEN 'Rental' THEN round(greatest(0, last_day - first_day) * vanguard.as_number(doc -> 'monthlyRate') / 30.44, 2)
        WHEN 'Purchase' THEN round(vanguard.as_number(doc -> 'purchasePrice'), 2)
    END, 0);

CREATE OR REPLACE FUNCTION pfa.plan_cost(doc jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pfa.cost(doc, vanguard.as_date(doc -> 'originalStart'), vanguard.as_date(doc -> 'originalEnd'));

CREATE OR REPLACE FUNCTION pfa.forecast_cost(doc jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pfa.cost(doc, vanguard.as_date(doc -> 'forecastStart'), vanguard.as_date(doc -> 'forecastEnd'));

-- Only where both actual dates are present, a purchase's too.
CREATE OR REPLACE FUNCTION pfa.actual_cost(doc jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN vanguard.as_date(doc -> 'actualStart') IS NULL OR vanguard.as_date(doc -> 'actualEnd') IS NULL THEN 0
                ELSE pfa.cost(doc, vanguard.as_date(doc -> 'actualStart'), vanguard.as_date(doc -> 'actualEnd')) END;

-- What a rental costs a month, and what a purchase costs.
CREATE OR REPLACE FUNCTION pfa.monthly_rental(doc jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN doc ->> 'source' = 'Rental' THEN round(vanguard.as_number(doc -> 'monthlyRate'), 2) END;

CREATE OR REPLACE FUNCTION pfa.purchase_cost(doc jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN doc ->> 'source' = 'Purchase' THEN round(vanguard.as_number(doc -> 'purchasePrice'), 2) END;

-- Whether something is missing that the cost of plan or forecast needs. Without actual dates there is no actual cost yet:
-- nothing is missing then.
CREATE OR REPLACE FUNCTION pfa.incomplete(doc jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE doc ->> 'source'
        WHEN 'Rental' THEN
            vanguard.as_number(doc -> 'monthlyRate') IS NULL
            OR vanguard.as_date(doc -> 'originalStart') IS NULL OR vanguard.as_date(doc -> 'originalEnd') IS NULL
            OR vanguard.as_date(doc -> 'forecastStart') IS NULL OR vanguard.as_date(doc -> 'forecastEnd') IS NULL
        WHEN 'Purchase' THEN vanguard.as_number(doc -> 'purchasePrice') IS NULL
        ELSE TRUE
    END;
