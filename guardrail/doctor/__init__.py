"""Asks a configured judge what it really does."""
