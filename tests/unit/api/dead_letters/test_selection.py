import pytest

from api.dead_letters.selection import KnownLetter
from contracts.records import AttemptError
from unit.api.dead_letters.letters import letter


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("attempt 1 failed", "attempt 23 failed"),
        ("no file 'a.csv'", "no file 'another one.csv'"),
        ("job 0e1c2d3f-1111-2222-3333-444455556666", "job 9e1c2d3f-1111-2222-3333-44445555aaaa"),
        ("sha256 0011223344aabb", "sha256 ffee0011aa9988"),
    ],
)
def test_fingerprint_ignores_what_varies(one: str, other: str) -> None:
    assert fingerprint("RetryableError", one) == fingerprint("RetryableError", other)


def test_different_causes_have_different_fingerprints() -> None:
    prints = {
        fingerprint("RetryableError", "refused"),
        fingerprint("RetryableError", "timed out"),
        fingerprint("RejectedError", "refused"),
        KnownLetter(letter()).fingerprint,
    }
    assert len(prints) == 4


def fingerprint(error_type: str, message: str) -> str:
    error = AttemptError(type=error_type, message=message)
    return KnownLetter(letter(), error=error).fingerprint
