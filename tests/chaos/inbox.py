"""A mail server that notes when each mail came."""

import time
from collections import defaultdict
from email.message import EmailMessage
from typing import Any

from servers import MailServer


class Inbox(MailServer):
    """Counts mails by their Message-ID."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: defaultdict[str, list[float]] = defaultdict(list)
        """When a Message-ID came, as time.time() says, just before its 250."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ANN401, N802
        answer = await super().handle_DATA(server, session, envelope)
        newest: EmailMessage = self.messages[-1]
        self.arrivals[str(newest["Message-ID"])].append(time.time())
        return answer

    def of_job(self, job_id: str) -> list[float]:
        """Return when a job's mails came."""
        return next((at for name, at in self.arrivals.items() if name[1:].startswith(job_id)), [])
