"""JetStream: the only package that imports `nats`. Connects, declares streams, publishes durably, consumes by the
handler contract, keeps leases, answers the services protocol. It knows events, but not what they mean."""

from fleetcast.bus.connection import Bus, connect
from fleetcast.bus.consume import ConsumerSpec, Delivery, Reject, Retry
from fleetcast.bus.dead import DeadLetter
from fleetcast.bus.errors import BusError, BusUnavailable, OperationRefused, TransportFailed
from fleetcast.bus.jetstream import Entry
from fleetcast.bus.keyvalue import KvEntry
from fleetcast.bus.leases import Lease
from fleetcast.bus.link import Message
from fleetcast.bus.publish import BatchMessage, Receipt
from fleetcast.bus.services import Service, ServiceError
from fleetcast.bus.streams import Change, declare
from fleetcast.bus.supervision import BusState
from fleetcast.bus.watch import InSync

__all__ = [
    "BatchMessage",
    "Bus",
    "BusError",
    "BusState",
    "BusUnavailable",
    "Change",
    "ConsumerSpec",
    "DeadLetter",
    "Delivery",
    "Entry",
    "InSync",
    "KvEntry",
    "Lease",
    "Message",
    "OperationRefused",
    "Receipt",
    "Reject",
    "Retry",
    "Service",
    "ServiceError",
    "TransportFailed",
    "connect",
    "declare",
]
