-- Costs of a PFA line: its computed columns. Money of one row, rounded to two decimals before anything sums it.
-- Rental: whole days / 30.44 * rate. Purchase: price. What is missing makes the cost 0.

CREATE OR REPLACE FUNCTION pfa.cost(source text, rate numeric, price numeric, first_day date, last_day date)
    RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(CASE source
        WHEN 'Rental' THEN round(greatest(0, last_day - first_day) * rate / 30.44, 2)
        WHEN 'Purchase' THEN round(price, 2)
    END, 0);

-- Only where both dates are present, a purchase's too.
CREATE OR REPLACE FUNCTION pfa.actual_cost(source text, rate numeric, price numeric, first_day date, last_day date)
    RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN first_day IS NULL OR last_day IS NULL THEN 0
                ELSE pfa.cost(source, rate, price, first_day, last_day) END;

-- What a rental costs a month, and what a purchase costs.
CREATE OR REPLACE FUNCTION pfa.monthly_rental(source text, rate numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE source WHEN 'Rental' THEN round(rate, 2) END;

CREATE OR REPLACE FUNCTION pfa.purchase_cost(source text, price numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE source WHEN 'Purchase' THEN round(price, 2) END;

-- Whether something is missing that the cost of plan or forecast needs. Without actual dates there is no actual cost
-- yet: nothing is missing then.
CREATE OR REPLACE FUNCTION pfa.incomplete(
    source text, rate numeric, price numeric, original_start date, original_end date, forecast_start date,
    forecast_end date)
    RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE source
        WHEN 'Rental' THEN
            rate IS NULL OR original_start IS NULL OR original_end IS NULL OR forecast_start IS NULL
            OR forecast_end IS NULL
        WHEN 'Purchase' THEN price IS NULL
        ELSE TRUE
    END;
