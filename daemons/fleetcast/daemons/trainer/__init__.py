"""The trainer daemon: starts what lanes ask for, once, on a node that can, and sees it to its end."""
