"""Alembic's environment: raw SQL over psycopg, one transaction for everything."""

import sys
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

# Migrations run from anywhere, and beside what is installed.
if (root := str(Path(__file__).parent.parent)) not in sys.path:
    sys.path.insert(0, root)

from migrations.tables import metadata


def run() -> None:
    """Run on the connection that app/migrate.py hands over, or on the URL given on the command line."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
        return
    url = context.get_x_argument(as_dictionary=True).get("url") or context.config.get_main_option("sqlalchemy.url")
    engine = create_engine(url or "", poolclass=pool.NullPool)
    with engine.connect() as own:
        context.configure(connection=own, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


run()
