"""The outbound rooms: one I/O library a file."""
