"""Remembers who made a request, for the tasks that it sends."""

from contextvars import ContextVar

current_user = ContextVar("current_user", default="")


def remember_user(get_response):
    """Django's middleware."""

    def middleware(request):
        token = current_user.set(request.headers.get("X-User", ""))
        try:
            return get_response(request)
        finally:
            current_user.reset(token)

    return middleware
