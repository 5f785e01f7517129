"""What is said to a user who can mend it: one sentence, without a traceback on the command line."""


class UserError(ValueError):
    """Something that whoever called can mend; the message is one sentence."""


class Invalid(UserError):
    """A value that is not allowed.

    Parameters
    ----------
    field
        What it was given for; dots lead into parts: ``objective.divergence.skew``.
    value
        What was given.
    allowed
        What is, to follow "it has to be".

    Examples
    --------
    >>> str(Invalid("epochs", 0, "a whole number from 1 up"))
    'epochs: 0 is not allowed; it has to be a whole number from 1 up'
    """

    def __init__(self, field: str, value: object, allowed: str):
        super().__init__(field, value, allowed)
        self.field, self.value, self.allowed = field, value, allowed

    def __str__(self) -> str:
        """The sentence."""
        return f"{self.field}: {_shown(self.value)} is not allowed; it has to be {self.allowed}"

    def within(self, field: str) -> "Invalid":
        """The same of a part that is the value of a field."""
        return Invalid(f"{field}.{self.field}".rstrip("."), self.value, self.allowed)


class DataError(UserError):
    """Files of a data set that are missing, damaged, or not what they should be."""


class TimeUp(UserError):
    """The time that was given ended before all was done; nothing is lost."""


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out whole numbers of more than 4,300 digits
        text = f"a whole number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    text = " ".join(map(str.strip, text.splitlines()))  # an array's is of several lines
    return text if len(text) <= 80 else f"{text[:77]}..."
