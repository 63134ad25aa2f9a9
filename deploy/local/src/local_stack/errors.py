"""What ends a command of the stack with an explanation instead of a traceback."""


class StackError(Exception):
    """The stack can't be started, shown or stopped; says why and what to do."""
