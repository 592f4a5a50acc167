"""The exception classes that a caller can act on."""


class DganError(Exception):
    """Something the user can mend; the message names the culprit and says what to do next."""


class DamagedError(DganError):
    """The files of a version are not as they were written."""


class TaskError(DganError):
    """One task cannot be labeled (its picture is missing or broken); others can."""


class PassingError(TaskError):
    """One task cannot be labeled now (its picture is out of reach), but may be later."""
