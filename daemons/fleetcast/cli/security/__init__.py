"""Commands about a fleet's keys, and nothing that decides about them: that is `fleetcast.security`."""
