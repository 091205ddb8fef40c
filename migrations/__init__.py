"""The control tables: their migrations, and the same as metadata."""
