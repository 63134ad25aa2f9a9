from email.message import EmailMessage

from e2e.conftest import Stack
from servers import eventually


def only_mail_to(stack: Stack, address: str) -> EmailMessage:
    """Return the mail that an address got, once it is there; two are an error."""
    assert eventually(lambda: bool(stack.mail_to(address))), f"no mail came for {address}"
    (mail,) = stack.mail_to(address)
    return mail
