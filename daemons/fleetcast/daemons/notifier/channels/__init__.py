"""Channels: each makes of a message what its service takes, which is pure, and brings it there.

A channel says what became of a delivery and decides nothing: when to try again, and when to give up, is the sender's.
Nothing secret is part of what it says: no address that is a key, no password, and no answer that repeats one.
"""

from fleetcast.daemons.notifier.channels.opening import Channel, open_channel

__all__ = ["Channel", "open_channel"]
