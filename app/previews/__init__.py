"""What a session comes to before it is submitted: differences, validation, conflicts, overlaps, figures, a digest."""

from app.previews.preview import ROUTES

__all__ = ["ROUTES"]
