"""The Python API of the registry: reading and moving slots, versions and their audit, by compare-and-swap."""
