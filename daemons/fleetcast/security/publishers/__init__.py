"""Keys that sign what nodes install: the folder that the root key lies in, and what may be done to the key ring. No bus
belongs here: telling the fleet is another's work."""
