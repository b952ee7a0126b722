"""The one exception a user of h2t meets."""


class Error(Exception):
    """A mistake in what was asked for: one message naming what is at fault and what to do about it."""
