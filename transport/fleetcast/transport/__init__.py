"""Bytes: manifest, content store, verification, and the transports that fill it. Nothing here knows NATS."""
