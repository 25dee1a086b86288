"""`python -m fleetcast`."""

from fleetcast.cli import main

main()
