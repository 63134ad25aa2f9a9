import pytest

from twinlane_sdk.allow_lists import HostAllowList, RecipientAllowList
from twinlane_sdk.errors import RejectedError

HOSTS = HostAllowList.parse("httpbin.org, *.example.com,127.0.0.1,[::1],bücher.example,")
RECIPIENTS = RecipientAllowList.parse("@empresa.com, Chefe@Example.org")


@pytest.mark.parametrize(
    "url",
    [
        "https://httpbin.org/delay/3",
        "http://httpbin.org:8080/get?x=1",
        "HTTP://HTTPBIN.ORG/",
        "http://httpbin.org./",
        "http://a.example.com/",
        "http://a.b.example.com/",
        "http://127.0.0.1:9/",
        "http://[::1]:9/",
        "http://bücher.example/",
        "http://xn--bcher-kva.example/",
    ],
)
def test_allowed_host_is_allowed_however_it_is_spelled(url: str) -> None:
    assert HOSTS.allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://httpbin.org.evil.net/",
        "http://evil-httpbin.org/",
        "http://example.com/",  # *.example.com is its subdomains only
        "http://evilexample.com/",
        "http://127.0.0.2/",
        "ftp://httpbin.org/",
        "file:///etc/passwd",
        "//httpbin.org/",
        "httpbin.org",
        "",
        "http://user@httpbin.org/",
        "http://user:secret@httpbin.org/",
        "http://httpbin.org@evil.net/",
        "http://evil.net\\@httpbin.org/",
        "http://evil.net#@httpbin.org/",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert not HOSTS.allows(url)


def test_the_address_to_call_is_the_one_that_was_checked() -> None:
    # Parsers disagree on which of the two is the host; only the canonical spelling may be called.
    assert HOSTS.admit("http://httpbin.org\\@evil.net/") == "http://httpbin.org/@evil.net/"
    assert HOSTS.admit("http://127.1/") == "http://127.0.0.1/"


def test_refusal_names_the_host_and_never_a_password() -> None:
    with pytest.raises(RejectedError, match=r"host 'evil\.net' is not on the list"):
        HOSTS.admit("http://evil.net/x")
    with pytest.raises(RejectedError) as refusal:
        HOSTS.admit("http://user:secret@httpbin.org/")
    assert "secret" not in str(refusal.value)


def test_empty_list_allows_nothing() -> None:
    assert not HostAllowList.parse(" , ").allows("http://httpbin.org/")
    assert not RecipientAllowList.parse("").allows("chefe@example.org")


@pytest.mark.parametrize(
    "entry", ["*", "*.", "a*.org", "http://httpbin.org", "httpbin.org:80", "[::1]:80", "::1", "a@b"]
)
def test_entry_that_is_no_host_is_an_error_at_once(entry: str) -> None:
    with pytest.raises(ValueError, match="allow-list entry"):
        HostAllowList.parse(entry)


@pytest.mark.parametrize(
    "address", ["ana@empresa.com", "ANA@EMPRESA.COM", "chefe@example.org", "CHEFE@example.ORG"]
)
def test_allowed_recipient_is_allowed_in_any_case(address: str) -> None:
    assert RECIPIENTS.allows(address)
    RECIPIENTS.check(address)


@pytest.mark.parametrize(
    "address",
    [
        "ana@sub.empresa.com",
        "ana@empresa.com.evil.net",
        "ana@evilempresa.com",
        "outro@example.org",
        "chefe@example.org, ana@evil.net",
        "empresa.com",
        "",
    ],
)
def test_other_recipients_are_refused(address: str) -> None:
    assert not RECIPIENTS.allows(address)
    with pytest.raises(RejectedError, match="not on the list of allowed recipients"):
        RECIPIENTS.check(address)


@pytest.mark.parametrize("entry", ["empresa.com", "@", "ana@", "@*"])
def test_entry_that_is_no_recipient_is_an_error_at_once(entry: str) -> None:
    with pytest.raises(ValueError, match="allow-list entry"):
        RecipientAllowList.parse(entry)
