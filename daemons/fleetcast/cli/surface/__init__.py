"""What the parser sees: names, options and help of every command. A body here imports what it calls and calls it;
nothing else may be imported at the top, because every module here is read for `fleetcast --help`."""
