"""What the server refuses, as a tree.

attention_backend.WinnowError
├── InvalidServerSettings        an option of ours breaks a rule: start-up stops, exit code 2
└── UnsupportedConfiguration     vLLM's options and pruning exclude each other: start-up stops, exit code 2
    └── BackendNotLive           the workers run without the backend: start-up stops, exit code 2
EngineDied                       a process of the engine died: the server stops, exit code 3
vllm.exceptions.VLLMValidationError
└── RequestRefused               one request breaks a rule: HTTP 400, the engine never sees it
vllm.exceptions.VLLMUnprocessableEntityError
└── MediaUnavailable             media that a request points at cannot be fetched: HTTP 422, the engine never sees it
vllm.exceptions.GracefulHTTPError
└── ServerFull                   other requests hold what this one needs: HTTP 503, the engine never sees it
"""

from http import HTTPStatus

from vllm.exceptions import GracefulHTTPError, VLLMUnprocessableEntityError, VLLMValidationError

from attention_backend.errors import UnsupportedConfiguration, WinnowError


class InvalidServerSettings(WinnowError):
    """An option of the command line is out of its range or contradicts another."""


class BackendNotLive(UnsupportedConfiguration):
    """The engine started, but its workers do not prune."""


# Of the process, unlike Python's own for errors.
EXIT_ENGINE_DIED = 3
EXIT_INTERRUPTED = 130


class EngineDied(Exception):
    """The engine or one of its workers is gone; requests in flight were answered with errors."""


class _FaultOfField:
    """Of one of vLLM's errors whose handler makes OpenAI's error body; alone it would append the field to the message.

    Args:
        message: field, value, rule and remedy.
        param: the request field at fault.
    """

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message, parameter=param)
        self.message = message

    def __str__(self) -> str:
        return self.message


class RequestRefused(_FaultOfField, VLLMValidationError):
    """A request that is answered with HTTP 400."""


class MediaUnavailable(_FaultOfField, VLLMUnprocessableEntityError):
    """Media behind a URL that does not answer as it should; HTTP 422, vLLM's status for this."""


class ServerFull(GracefulHTTPError):
    """A request that may be sent again later, with the same body.

    Args:
        message: what there is, the rule and the remedy.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, HTTPStatus.SERVICE_UNAVAILABLE)
