"""Callbacks that tell a run what a trainer of another library does. None of them imports that library: whoever uses one
has loaded it.

    with run("hex8_2p") as r:
        Trainer(..., callbacks=[hugging_face(r)]).train()
"""

from fleetcast.client.adapters.huggingface import hugging_face
from fleetcast.client.adapters.lightning import lightning

__all__ = ["hugging_face", "lightning"]
