"""Commands about publishers' keys, and the key ring that nodes follow; what decides about them is
`fleetcast.security.publishers`."""
