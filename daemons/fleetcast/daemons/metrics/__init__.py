"""What every daemon shows of itself to Prometheus: the catalogue of metrics, what fills it, and the endpoint.

A metric is declared in `catalogue` and nowhere else; the documents, the dashboards and the tests of the alert rules are
made from it or held against it. A reading looks at what a daemon knows already, when it is asked; no daemon counts for
this package. Nothing here decides anything.
"""

from fleetcast.daemons.metrics.serving import serve
from fleetcast.daemons.metrics.vitals import nothing

__all__ = ["nothing", "serve"]
