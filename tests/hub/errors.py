"""A refusal, with the status and the headers by which huggingface_hub recognises it."""


class ApiError(Exception):
    """Raised anywhere in a handler; becomes `{"error": message}` with `X-Error-Message` and perhaps `X-Error-Code`."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: object):
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **extra}
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


def not_found(code: str, message: str) -> ApiError:
    return ApiError(404, message, code)
