"""`fleetcast install` and `fleetcast uninstall`: what makes a machine a node, a trainer, a control machine or gateway.

`units` and `layout` say what belongs on a machine, as values; `plan` compares it with what is there; `carry` does it.
Nothing here talks to the bus.
"""
