"""rsync, the last rung (ADR 0014): one child per transfer, from one source at a time, over ssh with a forced command.

`plan` decides, `guard` is the small parent that ends rsync's processes together, `child` runs them, `relay` holds them
to the caps of the node (`handover` leads them there), `transport` follows the bytes. Nothing here serves: the source
side is sshd and `rrsync`, see docs/rsync.md.
"""

from fleetcast.transport.rsync.transport import RsyncTransport

__all__ = ["RsyncTransport"]
