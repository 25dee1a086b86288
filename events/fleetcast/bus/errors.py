"""What can go wrong on the bus, in three families: the data is bad, the transport failed, the operation was wrong."""


class BusError(Exception):
    """The bus could not do what was asked.

    The first line of a class's docstring is its default message. `next_step` says what a person can do about it.
    """

    def __init__(self, message: str | None = None, *, next_step: str | None = None) -> None:
        self.next_step = next_step
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class DataRefused(BusError):
    """What was handed to the bus can never be sent, whatever the state of the bus."""


class PayloadTooLarge(DataRefused):
    """The message is larger than the server takes."""


class TransportFailed(BusError):
    """The bus did not answer; the same call may succeed later."""


class BusUnavailable(TransportFailed):
    """No answer from NATS within the deadline."""


class ConnectionLost(BusUnavailable):
    """The connection ended before the answer came; whether the request took effect is not known."""


class NoTls(BusUnavailable):
    """No encrypted connection could be made: one end refuses the other's certificate, or it is not valid now."""


class BusTimeout(BusUnavailable):
    """Nobody answered in time; whether the request took effect is not known."""


class NoResponder(TransportFailed):
    """Nobody listens on that subject."""


class OutcomeUnknown(TransportFailed):
    """The request may or may not have taken effect: read back before trying again."""


class OperationRefused(BusError):
    """The server understood the request and refused it; trying again does not help."""

    def __init__(
        self, message: str | None = None, *, code: int = 0, error_code: int = 0, next_step: str | None = None
    ) -> None:
        self.code = code
        self.error_code = error_code
        super().__init__(message, next_step=next_step)


class AccessDenied(OperationRefused):
    """These credentials may not do that."""


class Conflict(OperationRefused):
    """Somebody else wrote first: the expected sequence is not the last one any more."""


class SubjectFull(OperationRefused):
    """That subject already holds as many messages as it may."""


class NotFound(OperationRefused):
    """There is no such stream, consumer, message or object."""


class ServerTooOld(OperationRefused):
    """The NATS server is older than fleetcast can trust."""


class ServerMissing(OperationRefused):
    """No usable nats-server was found."""


class DeclarationRefused(OperationRefused):
    """A stream or consumer exists with settings that cannot be changed to what is declared."""


class LeaseTaken(OperationRefused):
    """Somebody else holds the lease."""

    def __init__(self, message: str | None = None, *, owner: str = "", next_step: str | None = None) -> None:
        self.owner = owner
        super().__init__(message, next_step=next_step)


class LeaseLost(OperationRefused):
    """The lease expired or was taken over; nothing may be done in its name any more."""


class ObjectDamaged(DataRefused):
    """The bytes of an object are not what its digest says."""


class ServiceFailed(OperationRefused):
    """The service answered with an error."""
