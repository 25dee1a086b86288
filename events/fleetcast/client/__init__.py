"""What training jobs import. Standard library only; nothing here raises into the caller."""
