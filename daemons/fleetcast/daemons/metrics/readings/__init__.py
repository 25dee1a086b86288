"""One module for each kind of daemon: from what it knows to what it shows. A reading keeps nothing of its own but what
has no other owner: how often something happened, and since when nothing did.
"""
