"""Where a job's result is: in Redis while it is small, in storage as an artifact otherwise."""

from typing import Any, Final

MAX_RESULT_BYTES: Final = 64 * 1024
"""Of a result that is kept in Redis."""
RESULT_ARTIFACT: Final = "result.json"
_STORED: Final = "$artifact"
"""Key of the reference that stands in Redis for a larger result."""


def stored_result(size_bytes: int) -> dict[str, Any]:
    """Return what stands in Redis for a result of that size, which is an artifact of its job."""
    return {_STORED: RESULT_ARTIFACT, "size_bytes": size_bytes}


def is_stored_result(result: object) -> bool:
    """Return whether Redis holds only a reference, the result being the artifact `result.json`."""
    return isinstance(result, dict) and result.get(_STORED) == RESULT_ARTIFACT
