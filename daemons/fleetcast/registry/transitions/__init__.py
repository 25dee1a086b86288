"""What follows from a command and the present state: pure decisions, one module for each family of commands.

Nothing here reads or writes: `engine` reads a `View`, calls `decide`, and commits the `Decision`."""
