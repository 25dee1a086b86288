"""JetStream: the only package that imports `nats`. Connects, declares streams, publishes durably, consumes by the
handler contract, keeps leases, answers the services protocol. It knows events, but not what they mean."""
