"""Hooks: how the process that serves a model on this node learns that `current` moved.

Here belong what is to be told and when (`rules`), how a command or a signal is carried out within its limits
(`process`), and who tells it, one at a time per model (`desk`). What is served is decided elsewhere, by slot orders.
"""
