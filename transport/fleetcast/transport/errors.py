"""What can go wrong with bytes, by whose fault it is.

`BadData`: what arrived or was published is not what it should be; trying again brings the same result.
`TransferError`: the sources or the way to them failed; another try or another transport may work.
`StoreError`: this node could not do it: no space, an order that comes too late, a name that leaves its folder.
"""


class TransportError(Exception):
    """Base of all errors of this package.

    Attributes:
        next_step: what to do now, as a command or an edit; empty when only waiting helps.
    """

    def __init__(self, reason: str = "", *, next_step: str = "") -> None:
        super().__init__(reason or (self.__doc__ or "").strip().splitlines()[0])
        self.next_step = next_step

    @property
    def reason(self) -> str:
        """What failed and why, in one sentence."""
        return str(self)


class BadData(TransportError):
    """The bytes are not what they should be."""


class ContentRefused(BadData):
    """A file cannot be published from here.

    Attributes:
        field: the field of the event that is at fault.
    """

    def __init__(self, reason: str, *, field: str = "path", next_step: str) -> None:
        super().__init__(reason, next_step=next_step)
        self.field = field


class VerificationFailed(BadData):
    """Bytes on the disk differ from their digest.

    Attributes:
        path: the file at fault, relative to its content.
        expected: the digest that was promised.
        actual: the digest that was found.
    """

    def __init__(self, reason: str = "", *, path: str = "", expected: str = "", actual: str = "") -> None:
        super().__init__(reason)
        self.path = path
        self.expected = expected
        self.actual = actual


class FormatRefused(BadData):
    """The bytes are right, and a program that loads them would fail or be attacked."""


class MetainfoRefused(BadData):
    """The metainfo does not describe the content."""


class ManifestRefused(BadData):
    """The manifest is not a valid statement about this content."""


class RingRefused(BadData):
    """The key ring is not one that this node may believe."""


class KeyUnusable(TransportError):
    """A private key cannot be read, or is none that signs."""


class TransferError(TransportError):
    """A transfer could not bring the bytes."""


class TransferFailed(TransferError):
    """A transfer cannot go on."""


class TransferStalled(TransferError):
    """Sources are connected, and no byte comes."""


class SourceUnreachable(TransferError):
    """A source does not answer."""


class CannotListen(TransportError):
    """A port that others would reach this node by is taken or not allowed."""


class StoreError(TransportError):
    """The store on this node could not do what was asked."""


class StoreFull(StoreError):
    """There is no room for the content."""


class PathRefused(StoreError):
    """A name in the store is not the plain file or folder that it has to be."""


class StaleGeneration(StoreError):
    """A slot order is older than the one in force, or contradicts it."""


class NotInstalled(StoreError):
    """What a slot order names is not installed on this node."""


class VersionHeld(StoreError):
    """The version is installed with other content; versions are immutable."""


class NotKept(StoreError):
    """The store holds nothing under that name."""
