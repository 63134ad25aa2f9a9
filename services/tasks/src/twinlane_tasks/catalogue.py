"""The catalogue of the bundled tasks."""

from twinlane_sdk.catalogue import Catalogue
from twinlane_tasks import csv, draws, http, reports, sales, sums, upkeep

_MODULES = (sums, csv, sales, reports, http, draws, upkeep)


def bundled_tasks() -> Catalogue:
    """Return the specs of all tasks that Twinlane brings along."""
    return Catalogue(spec for module in _MODULES for spec in module.TASKS)
