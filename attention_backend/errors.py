"""What can go wrong, as a tree.

WinnowError
├── InvalidSparsityP          a request's `sparsity_p` breaks a rule
├── InvalidSparsityConfig     an engine-level option breaks a rule
└── UnsupportedConfiguration  the engine is configured in a way that pruning cannot work with
"""


class WinnowError(ValueError):
    """Base of every error that this project raises about its user's input."""


class InvalidSparsityP(WinnowError):
    """A request asked for a `sparsity_p` that is not allowed.

    Attributes:
        param: the request field at fault, as OpenAI's error body names it.
    """

    param = "sparsity_p"


class InvalidSparsityConfig(WinnowError):
    """An option of `SparsityConfig` is out of its range."""


class UnsupportedConfiguration(WinnowError):
    """The engine's configuration and token pruning exclude each other."""
