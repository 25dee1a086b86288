"""Machines that are taken away: who says so, and what is done in the time that is left.

`aws` and `gcp` read the notices of two clouds, `rules` decides, `leaving` acts. A notice is one event
of the fleet, `node.reclaim.notice`, whoever noticed: a cloud, a person, or a drill.
"""
