"""Commands that ask the registry: decisions through its daemon, answers out of its read model."""
