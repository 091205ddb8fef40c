"""What operators and developers measure with. Nothing of it is part of the service."""
