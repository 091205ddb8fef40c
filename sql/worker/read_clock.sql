-- The time that leases and schedules go by: one clock for all workers, the database's. Returns at.
SELECT clock_timestamp() AS at;
