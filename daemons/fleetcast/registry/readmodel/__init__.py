"""The read model: what FC_REGISTRY, FC_EVENTS and FC_MINUTES say, as tables of one SQLite file that lists and compares.

It is never the truth: it is made from the streams alone, each answer says up to which sequence, and a file that is
lost, damaged or of another layout is made again. `model` owns the file, `flatten` and `projection` make rows of
registry records, `happenings` of events, `minutes` of what serving code reports; the other modules are queries: plain
functions over a connection that reads. Synchronous: whoever runs a loop calls it in threads.
"""

from fleetcast.registry.readmodel.catalogue import QUERIES, answer
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound, NotYet, ReadModelDamaged
from fleetcast.registry.readmodel.model import Cursor, ReadModel
from fleetcast.registry.readmodel.projection import Record

__all__ = [
    "QUERIES",
    "BadQuery",
    "Cursor",
    "NotYet",
    "NothingFound",
    "ReadModel",
    "ReadModelDamaged",
    "Record",
    "answer",
]
