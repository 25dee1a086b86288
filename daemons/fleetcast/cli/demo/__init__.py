"""The demo: the main story on real parts, in a folder of its own, checked step by step. Belongs here: what is shown and
what must be true after each step, read from the disk and the bus by itself. Must not be here: another way of doing
anything; it uses what every command uses."""
