"""The exception classes that a caller can act on."""


class DganError(Exception):
    """Something the user can mend; the message names the culprit and says what to do next."""


class TaskError(DganError):
    """One task cannot be labeled (its picture is missing, broken or out of reach); others can."""
