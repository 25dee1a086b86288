"""The command line: a thin caller of daemons, registry and bus. Heavy imports happen inside the commands."""
