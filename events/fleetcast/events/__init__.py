"""The vocabulary of the fleet as values: identifiers, content, events, their names and envelope, and the registry's
state. Pure: no asyncio, no third party but pydantic; the clock is read only for the time of a new event, files only by
`export`."""
