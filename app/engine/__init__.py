"""How the merged view is read and written.

Desk, view, page, figures, predicates, selection, locks, modifications, cursors.
"""
