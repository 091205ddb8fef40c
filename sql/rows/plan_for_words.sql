-- Plan the next statements of this transaction for their very arguments: what a search finds depends on its words.
-- No parameters.
SELECT set_config('plan_cache_mode', 'force_custom_plan', TRUE);
