"""What everything stands on: the database, statements, exact JSON, errors, settings, logs, the clock."""
