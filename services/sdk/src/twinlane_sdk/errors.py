"""How a task says what should happen next. Anything else it raises is a bug and stays loud."""


class RetryableError(Exception):
    """Later may work: a refused connection, a 503 upstream, a timeout."""


class RejectedError(Exception):
    """Will never work: the input is wrong, the host is not allowed. Not retried."""


class DeadlineExceededError(Exception):
    """The task's own deadline passed while it worked. Not retried."""


class JobCancelledError(Exception):
    """Nobody wants the job any more. Raised where a task can stop; not retried, no failure."""
