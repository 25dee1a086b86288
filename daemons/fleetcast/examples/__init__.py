"""Programs to begin with: what a user of fleetcast would write. Belongs here: training jobs that use the client as
anybody may. Must not be here: anything of fleetcast but the client, and anything that fleetcast itself needs."""
