"""The product on one machine: its processes, its PostgreSQL, its PEMS, its invented lines."""
