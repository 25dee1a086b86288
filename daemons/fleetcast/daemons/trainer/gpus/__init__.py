"""What this machine's GPUs are and how they are: `GpuReader`, from the vendor's library where it is installed, from
sysfs otherwise. Nothing here starts work on a GPU, nor decides what is done about a bad one."""

from fleetcast.daemons.trainer.gpus.reading import GpuReader

__all__ = ["GpuReader"]
