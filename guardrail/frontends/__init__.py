"""The inbound rooms: every door on the same engine."""
