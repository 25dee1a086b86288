"""The settings of [signing]: whose word about a version counts on this node."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from fleetcast.config.group import Group

RootKey = Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]


class SigningSettings(Group):
    """Signed manifests: which keys say what a version is. Without root keys, nothing is checked (docs/signing.md)."""

    root_keys: tuple[RootKey, ...] = Field(
        default=(),
        description="Public root keys, as `fleetcast keys init` prints them: they vouch for the key ring. None: "
        "manifests are taken as they come.",
    )
    unsigned: Literal["allow", "refuse"] = Field(
        default="allow",
        description="Whether a version is installed whose manifest nobody in the key ring has signed. allow, until "
        "every publisher signs.",
    )
    publisher_key: Path | None = Field(
        default=None,
        examples=["credential:publisher.key"],
        description="Private key that this node signs with what is published here, a file of mode 0600, or "
        "credential:NAME. None: what is published here is not signed.",
    )

    @model_validator(mode="after")
    def _can_tell(self) -> "SigningSettings":
        if self.unsigned == "refuse" and not self.root_keys:
            raise ValueError('unsigned = "refuse" needs root_keys: without them no signature can be looked up')
        return self
