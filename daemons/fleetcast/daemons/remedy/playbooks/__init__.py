"""Playbooks: named steps that remedy something, carried out durably.

`definition`, `loading` and `template` read them; `rules` decides what a run does next, and `breaker` whether it may;
`requests` makes runs of what is asked; `store` keeps them; `runner` carries them out, `intake` and `desk` take what is
asked by events and by people. `steps/` is what they are made of. Nothing here writes a slot.
"""
