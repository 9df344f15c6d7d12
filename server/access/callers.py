"""The caller that the running code works for, in a context variable, like the exchange."""

from contextvars import ContextVar
from dataclasses import dataclass

from server.access.rates import Allowance
from server.access.settings import AccessSettings
from server.settings import ServerSettings

# Of requests that show no key, on a server that asks for none.
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: that of its entry.
        digests: of its keys.
        is_operator: whether routes that change the server are open to it.
        settings: the server's, with the caller's own default and bounds of `sparsity_p`.
        allowance: how much it may ask for at a time.
    """

    name: str
    digests: tuple[bytes, ...]
    is_operator: bool
    settings: ServerSettings
    allowance: Allowance

    @property
    def is_named(self) -> bool:
        """Whether a key tells it apart from others."""
        return bool(self.digests)


def callers_of(settings: ServerSettings) -> list[Caller]:
    """Those whom the keys name."""
    access = settings.access
    return [
        Caller(
            name=policy.name,
            digests=policy.digests,
            is_operator=policy.entry.operator,
            settings=settings.narrowed(policy),
            allowance=_allowance(access, policy.entry.requests_per_minute, policy.entry.concurrent_requests),
        )
        for policy in access.policies
    ]


def anonymous(settings: ServerSettings) -> Caller:
    """All requests together, on a server without keys."""
    return Caller(ANONYMOUS, (), False, settings, _allowance(settings.access, None, None))


def _allowance(access: AccessSettings, requests_per_minute: int | None, concurrent_requests: int | None) -> Allowance:
    return Allowance(
        access.requests_per_minute if requests_per_minute is None else requests_per_minute,
        access.concurrent_requests if concurrent_requests is None else concurrent_requests,
    )


_current: ContextVar[Caller | None] = ContextVar("winnow_caller", default=None)


def current_caller() -> Caller | None:
    """Who sent the request that the running code works for; None outside HTTP requests."""
    return _current.get()


def begin_call(caller: Caller) -> None:
    """Make `caller` the current one of this task and of those that it starts."""
    _current.set(caller)


def settings_of_caller(settings: ServerSettings) -> ServerSettings:
    """The caller's settings, or the server's where there is no caller."""
    caller = current_caller()
    return settings if caller is None else caller.settings
