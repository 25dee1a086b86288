"""The fleet as it is now, for whoever shows it: commands and the gateway. Belongs here: what heartbeats, slots, drains
and progress messages say together, as values and as JSON. Must not be here: tables and colours, and anything that
changes the fleet.
"""
