-- Prepare a transaction for one long read, at the beginning of it.
-- $1 seconds that it may take (double precision), $2 walk (boolean): whether rows are to come in the order of an index.
-- Returns nothing of interest.
--
-- The plan is made for the very arguments: what a user has drafted and what a filter finds differs by orders of
-- magnitude. With walk it must not sort, so that the first row is there at once: by cost alone, it would sort a
-- million. No row is looked up twice, so that to remember them would only take memory.
SELECT set_config('plan_cache_mode', 'force_custom_plan', TRUE),
       set_config('enable_sort', CASE WHEN $2::boolean THEN 'off' ELSE 'on' END, TRUE),
       set_config('enable_memoize', 'off', TRUE),
       set_config('idle_in_transaction_session_timeout', ($1::double precision * 1000)::bigint::text, TRUE),
       set_config('transaction_read_only', 'on', TRUE);
