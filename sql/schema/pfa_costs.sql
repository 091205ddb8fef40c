-- Costs of a PFA line: its computed columns. Money of one row, rounded to two decimals before anything sums it.
-- Rental: whole days / 30.44 * rate. Purchase: price. What is missing makes the cost 0.

CREATE OR REPLACE FUNCTION pfa.cost(source text, rate numeric, price numeric, first_day date, last_day date)
    RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(CASE source
        WHEN 'Rental' THEN round(greatest(0, last_day - first_day) * rate / 30.44, 2)
        WHEN 'Purchase' THEN round(price, 2)
    END, 0);

-- Only where both dates are present, a purchase's too: a rental without them costs 0 as it is.
CREATE OR REPLACE FUNCTION pfa.actual_cost(
    source text, rate numeric, price numeric, first_day date, last_day date, has_first boolean, has_last boolean)
    RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(CASE source
        WHEN 'Rental' THEN round(greatest(0, last_day - first_day) * rate / 30.44, 2)
        WHEN 'Purchase' THEN CASE WHEN has_first AND has_last THEN round(price, 2) END
    END, 0);

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
    source text, has_rate boolean, has_price boolean, has_original_start boolean, has_original_end boolean,
    has_forecast_start boolean, has_forecast_end boolean)
    RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE source
        WHEN 'Rental' THEN
            NOT (has_rate AND has_original_start AND has_original_end AND has_forecast_start AND has_forecast_end)
        WHEN 'Purchase' THEN NOT has_price
        ELSE TRUE
    END;
