"""The vocabulary of the fleet as values: identifiers, content, events, their names and envelope, and the registry's
state. Pure: no I/O, no clock, no asyncio, no third party but pydantic."""
