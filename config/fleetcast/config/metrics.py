"""Where Prometheus finds a daemon."""

from pydantic import Field

from fleetcast.config.group import Group


class MetricsSettings(Group):
    """Metrics for Prometheus, which every daemon serves at http://ADDRESS:PORT/metrics (`fleetcast metrics`)."""

    enabled: bool = Field(default=True, description="Whether they are served. They cost nothing until somebody asks.")
    bind: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that is listened on. This machine only: whoever reaches it can read the names of nodes, "
        "models and versions. For a Prometheus elsewhere, the node's address in a network that you trust.",
    )
    port: int = Field(
        default=9640,
        ge=0,
        le=65500,
        description="Port of the distributor; registry, monitor, remedy, notifier, trainer and gateway have the next "
        "ones, in this order, so that they are the same on every node. Where one is taken, a free one is used and "
        "named. 0: free ones, for several nodes on one machine.",
    )
