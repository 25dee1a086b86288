"""`fleetcast check`: one answer for monitoring systems. What is looked at, and how bad it is, is decided in `rules`."""
