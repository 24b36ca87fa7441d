"""The two ways in which dafw says no."""


class UsageError(Exception):
    """What was asked cannot be done as asked: one line that says what was given, what was expected and what to type.

    The command line prints it and exits with 2; nothing is left half-written.
    """


class TrainingError(Exception):
    """A run that started could not be finished (a loss became NaN, say); the command line exits with 1."""
