"""Settings: what they are, where each value came from, and what is wrong with a file. No I/O but reading files and the
environment; nothing here knows NATS, transports or daemons."""
