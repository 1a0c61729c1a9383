"""The tree of errors: each says whose fault it is and what to do next.

The exit codes are those of sysexits.h, which systemd knows by name: 78 EX_CONFIG for a mistake of the operator's in
the configuration or in a model file, 65 EX_DATAERR for a series nothing can be learnt from, 69 EX_UNAVAILABLE where
another service refuses us, 70 EX_SOFTWARE where we are wrong ourselves.
"""

__all__ = ["ArtifactError", "ConfigError", "SeriesError", "StoreError", "StreamaeError", "UnavailableError"]


class StreamaeError(Exception):
    """Root of all errors that are expected; `str()` is the line to show, `exit_code` ends the process."""

    exit_code = 70


class ConfigError(StreamaeError):
    """The configuration is wrong: the message is `file:line:column: key: got value; do this`, one line a mistake."""

    exit_code = 78


class ArtifactError(StreamaeError):
    """A model file is missing, damaged, of an unknown digest, or does not fit what it is used for."""

    exit_code = 78


class SeriesError(StreamaeError):
    """A series or recording cannot be read, rows are not the model's, or nothing can be learnt from them."""

    exit_code = 65


class StoreError(StreamaeError):
    """The state directory is locked, unwritable, or written by a newer version."""

    exit_code = 73


class UnavailableError(StreamaeError):
    """A service that we depend on (broker, webhook) refuses us for good."""

    exit_code = 69
