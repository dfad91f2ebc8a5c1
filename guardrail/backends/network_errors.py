"""What goes wrong between us and a server that we ask.

NetworkError         a call failed on the network or on the protocol
├── ConnectFailed    never connected: nothing was sent
├── Lost             ended before the answer did; the request may have been acted upon
├── Silent           connected, but nothing moved for the longest silence
└── Malformed        what came is not HTTP/1.1, or what should be sent is not
"""

from __future__ import annotations

__all__ = ["ConnectFailed", "Lost", "Malformed", "NetworkError", "Silent"]


class NetworkError(Exception):
    """A call failed on the network or on the protocol."""


class ConnectFailed(NetworkError):
    """The connection was never made, so that nothing was sent."""


class Lost(NetworkError):
    """The connection ended before the answer did."""


class Silent(NetworkError):
    """Nothing came, and nothing could be sent, for the longest silence."""


class Malformed(NetworkError):
    """What came, or what was to be sent, is not HTTP/1.1."""
