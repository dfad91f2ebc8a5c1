"""The real Redis for the backends that use it."""

from __future__ import annotations

from tests.redis_server import redis, redis_process

__all__ = ["redis", "redis_process"]
