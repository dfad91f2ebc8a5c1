"""What the guard's own work costs inside one process, on one core: no server, no judge. See README.md."""
