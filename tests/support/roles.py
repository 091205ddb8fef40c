"""What the owner of the tables sets for tests."""

import psycopg

LONG_AGO = -36_500  # days: a hundred years from now on


def forget_freely(url: str) -> None:
    """Nothing is too young to be forgotten, by whatever clock."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE public.retention SET days = %s", [LONG_AGO])
