"""Content and metainfo of an offer: inside its message, or in the object bucket when they are too large for one."""

import base64
import hashlib

from pydantic import ValidationError

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound, ObjectDamaged
from fleetcast.daemons.distributor.rules import Offer, offer_from_state
from fleetcast.events.content import Content
from fleetcast.events.ids import canonical_json
from fleetcast.events.payloads import ContentRef, ObjectRef
from fleetcast.events.state import VersionState
from fleetcast.transport.errors import MetainfoRefused

INLINE_BYTES = 256 * 1024
"""Content or metainfo above this travels by the object bucket; a message has at most 1 MiB, with both in it."""


async def put_content(bus: Bus, content: Content) -> tuple[Content | None, ContentRef | None]:
    """Content as a message carries it: itself, or the object that it was stored as.

    Raises:
        BusUnavailable: the bucket cannot be written.
    """
    data = canonical_json(content.model_dump(mode="json"))
    if len(data) <= INLINE_BYTES:
        return content, None
    reference = ContentRef(
        name=f"content/{content.artifact}",
        sha256=content.artifact,
        size=len(data),
        files=len(content.files),
        bytes=content.size,
    )
    await bus.object_put(reference.name, data)
    return None, reference


async def put_metainfo(bus: Bus, artifact: str, blob: bytes) -> tuple[str | None, ObjectRef | None]:
    """Metainfo as a message carries it: in base 64, or the object that it was stored as; errors as `put_content`."""
    if len(blob) * 4 // 3 <= INLINE_BYTES:
        return base64.b64encode(blob).decode(), None
    reference = ObjectRef(name=f"metainfo/{artifact}", sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
    await bus.object_put(reference.name, blob)
    return None, reference


async def get_object(bus: Bus, reference: ObjectRef) -> bytes:
    """The bytes that a reference names.

    Raises:
        MetainfoRefused: there is no such object, or it is another one.
        BusUnavailable: the bucket cannot be read.
    """
    try:
        data = await bus.object_get(reference.name)
    except (NotFound, ObjectDamaged) as missing:
        raise MetainfoRefused(f"object {reference.name} cannot be had: {missing}") from missing
    if hashlib.sha256(data).hexdigest() != reference.sha256:
        raise MetainfoRefused(f"object {reference.name} is not the one that the offer names")
    return data


async def get_content(bus: Bus, reference: ContentRef) -> Content:
    """The content that a reference names; errors as `get_object`."""
    data = await get_object(bus, reference)
    try:
        content = Content.model_validate_json(data)
    except ValidationError as broken:
        raise MetainfoRefused(f"object {reference.name} is no content: {broken.errors()[0]['msg']}") from broken
    if content.artifact != reference.sha256:
        raise MetainfoRefused(f"object {reference.name} is not written canonically")
    return content


async def content_of(bus: Bus, state: VersionState) -> Content:
    """What a version is made of, wherever that is written; errors as `get_object`."""
    if state.content is not None:
        return state.content
    assert state.content_ref is not None
    return await get_content(bus, state.content_ref)


async def offer_of(bus: Bus, state: VersionState) -> Offer:
    """A version of the registry as an offer; errors as `get_object`."""
    return offer_from_state(state, await content_of(bus, state))
