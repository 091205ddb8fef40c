"""PEMS (HxGN EAM) as a system of record."""
