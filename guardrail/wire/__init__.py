"""API dialects: JSON and bytes to core values and back. Pure."""
