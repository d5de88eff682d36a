"""Times by Celery's names."""

from random import SystemRandom

__all__ = ["get_exponential_backoff_interval"]


def get_exponential_backoff_interval(
    factor: float, retries: int, maximum: float, full_jitter: bool = False
) -> float:
    """The seconds to wait before a retry: ``factor`` doubled each time, at most ``maximum``."""
    seconds: float = min(maximum, factor * 2**retries)
    if full_jitter:
        seconds = SystemRandom().randrange(int(seconds) + 1)
    return max(0, seconds)
