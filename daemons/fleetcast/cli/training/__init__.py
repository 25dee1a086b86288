"""Commands about training runs, and about what their jobs left in spools."""
