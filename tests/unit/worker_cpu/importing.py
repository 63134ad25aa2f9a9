"""What a process of its own does in the tests of concurrent imports."""

from pathlib import Path

from contracts.storage import open_storage
from worker_cpu.sales_dataset import MonthFile, SalesDataset

IMPORTS_EACH = 5


def import_repeatedly(storage_url: str, scratch: str, source: str) -> None:
    """Replace the rows of `source` IMPORTS_EACH times."""
    dataset = SalesDataset(open_storage(storage_url))
    for number in range(IMPORTS_EACH):
        path = Path(scratch) / f"{source}-{number}"
        path.write_text(f"{source} {number}")
        dataset.replace(source, {"2025-01": MonthFile(path, rows=number)})
