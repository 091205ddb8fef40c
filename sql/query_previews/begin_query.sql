-- Prepare a transaction for one question, at the beginning of it.
-- $1 seconds (double precision) that a statement may take, $2 memory_mb (bigint: of each sort or hash), $3 files_mb
-- (bigint: temporary files of the session), $4 idle (double precision: seconds between two statements, while somebody
-- takes what was read). Returns nothing of interest.
--
-- Costs decide, unlike for a page: a question can be anything, and may read whole datasets, in parallel. The plan is
-- made for the very arguments. Temporary files are bounded where the service may say so (migration 0019).
SELECT set_config('statement_timeout', ($1::double precision * 1000)::bigint::text, TRUE),
       set_config('work_mem', $2::bigint || 'MB', TRUE),
       set_config('plan_cache_mode', 'force_custom_plan', TRUE),
       set_config('enable_seqscan', 'on', TRUE),
       set_config('enable_bitmapscan', 'on', TRUE),
       set_config('enable_hashjoin', 'on', TRUE),
       set_config('enable_mergejoin', 'on', TRUE),
       set_config('max_parallel_workers_per_gather', '2', TRUE),
       set_config('idle_in_transaction_session_timeout', ($4::double precision * 1000)::bigint::text, TRUE),
       CASE WHEN has_parameter_privilege('temp_file_limit', 'SET')
                THEN set_config('temp_file_limit', $3::bigint || 'MB', TRUE)
       END;
