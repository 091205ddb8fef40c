"""How the merged view is read and written: views, pages, figures, locks, modifications, cursors."""
