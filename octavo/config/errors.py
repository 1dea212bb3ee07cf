"""The errors a caller may meet. Covers: their names only; each message is written where it is raised.

A message is one line and names the thing, its value and the limit it broke.
"""


class OctavoError(Exception):
    """Base of every error that Octavo raises on purpose; the command line prints it without a traceback."""


class ConfigError(OctavoError):
    """A configuration that is unknown, incomplete, out of range or of an unsupported model."""


class CheckpointError(OctavoError):
    """Weights that are missing, extra, misshaped, truncated or of the wrong type."""


class DocumentError(OctavoError):
    """A folded document that is damaged, altered, too new, or made by another model."""


class TextError(OctavoError):
    """Text that cannot be used: empty, binary, not UTF-8, or a tokenizer that is unusable."""


class LimitError(OctavoError):
    """More than fits: a context, a request or a cache beyond its limit."""


class BusyError(OctavoError):
    """Nothing is wrong with the request, but there is no room for it now; `retry_after` seconds may help."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MissingError(OctavoError):
    """A document, a model or a stored response that is not there."""


class WorkerError(OctavoError):
    """A process that holds a part of the model has ended; the model cannot go on without it."""


class TrainingError(OctavoError):
    """A training run that cannot go on."""


class SandboxError(OctavoError):
    """The process that runs JavaScript could not be started."""


class UsageError(OctavoError):
    """A command or call that was put together wrongly."""
