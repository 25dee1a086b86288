"""Signatures: publishers' keys, the key ring, and whether a manifest counts on this node."""
