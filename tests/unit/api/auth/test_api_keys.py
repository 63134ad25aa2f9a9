import subprocess
import sys
from hashlib import sha256

import pytest

from api.auth.api_keys import ApiKey, Scope, find_key, parse_keys

DIGEST = sha256(b"one").hexdigest()
OTHER = sha256(b"two").hexdigest()


def test_key_is_found_by_what_was_presented_and_nothing_else() -> None:
    keys = parse_keys(f"ci:submit+read:{DIGEST}, ops:admin:{OTHER},")
    assert find_key(keys, b"one") == ApiKey("ci", frozenset({Scope.SUBMIT, Scope.READ}))
    assert find_key(keys, b"two") == ApiKey("ops", frozenset({Scope.ADMIN}))
    for stranger in (b"", b"One", DIGEST.encode(), bytes.fromhex(DIGEST), b"\xff"):
        assert find_key(keys, stranger) is None


def test_no_entry_is_no_key() -> None:
    assert parse_keys("") == parse_keys(" , ") == {}


def test_admin_includes_the_other_scopes_and_they_do_not_include_each_other() -> None:
    assert all(ApiKey("ops", frozenset({Scope.ADMIN})).allows(scope) for scope in Scope)
    for scope in (Scope.READ, Scope.SUBMIT):
        key = ApiKey("one", frozenset({scope}))
        assert [other for other in Scope if key.allows(other)] == [scope]


def test_two_keys_of_a_name_are_both_good_so_that_one_can_replace_the_other() -> None:
    keys = parse_keys(f"ci:read:{DIGEST},ci:read:{OTHER}")
    assert find_key(keys, b"one") == find_key(keys, b"two")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("a-key-without-anything", "entry 2 is not name:scope"),
        (f"{DIGEST}:read:{DIGEST}", "entry 2 is not name:scope"),
        (f":read:{DIGEST}", "entry 2 is not name:scope"),
        (f"one two:read:{DIGEST}", "entry 2 is not name:scope"),
        ("ci:read", r"entry 2 \(ci\) does not end with 64"),
        (f"ci:read:{DIGEST[1:]}", r"entry 2 \(ci\) does not end with 64"),
        (f"ci:read:{DIGEST}:more", r"entry 2 \(ci\) does not end with 64"),
        (f"ci:read:{DIGEST.upper()}", r"entry 2 \(ci\) does not end with 64"),
        (f"ci::{DIGEST}", r"entry 2 \(ci\) needs scopes.*: read, submit, admin"),
        (f"ci:read+write:{DIGEST}", r"entry 2 \(ci\) needs scopes.*: read, submit, admin"),
        (f"ci:{DIGEST}:{DIGEST}", r"entry 2 \(ci\) needs scopes"),
        (f"ci:read:{OTHER}", r"entry 2 \(ci\) repeats the key of another entry"),
    ],
)
def test_malformed_entry_is_named_without_repeating_a_secret(entry: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_keys(f"ops:admin:{OTHER},{entry}")
    said = str(caught.value)
    assert "a-key" not in said
    assert DIGEST[:8] not in said.lower()
    assert OTHER[:8] not in said


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.auth.api_keys", *arguments],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_makes_a_key_and_its_entry_anew_each_time() -> None:
    made = [run_command("ci", "submit", "read").stdout.splitlines() for _ in range(2)]
    keys, entries = {lines[1].strip() for lines in made}, [lines[3].strip() for lines in made]
    assert len(keys) == 2
    found = {find_key(parse_keys(",".join(entries)), key.encode()) for key in keys}
    assert found == {ApiKey("ci", frozenset({Scope.SUBMIT, Scope.READ}))}
    assert all(len(key) > 43 for key in keys)  # 256 bits in base64


@pytest.mark.parametrize("arguments", [("ci",), ("c:i", "read"), ("x" * 41, "read"), ("ci", "all")])
def test_command_refuses_what_the_api_could_not_read(arguments: tuple[str, ...]) -> None:
    refused = run_command(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "error: " in refused.stderr
