"""The one error that callers of this package need to know."""


class ExportError(Exception):
    """An export cannot be done: one sentence that says what is wrong and, if possible, what helps.

    The error below it, where there is one, is chained.
    """
