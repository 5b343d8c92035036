"""The one error that callers of this package need to know."""


class ExportError(Exception):
    """An export cannot be done: one sentence says what is wrong and, if possible, what helps.

    Where another error caused it, that one is chained.
    """
