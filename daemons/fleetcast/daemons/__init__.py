"""One package per daemon: its rules beside a thin asyncio shell. `runtime` holds what all of them share."""
