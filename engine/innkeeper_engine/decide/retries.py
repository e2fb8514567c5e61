"""When a failed request is tried again."""

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait after each failed attempt (https://www.inngest.com/docs/features/inngest-functions/error-retries/retries)."""

    backoff_ms: tuple[int, ...] = (
        15_000,
        30_000,
        60_000,
        120_000,
        300_000,
        600_000,
        1_200_000,
        2_400_000,
        3_600_000,
        7_200_000,
    )
    """By the zero-based attempt that failed; the last one repeats."""
    jitter_ms: int = 30_000
    """Up to so much more, at random."""

    def retry_at_ms(self, attempt: int, now_ms: int, chance: float, asked_ms: int | None) -> int:
        """When to try again after zero-based `attempt` failed now.

        `chance` in [0, 1) picks the jitter; `asked_ms` is the instant that the app asked for, which wins.
        """
        if asked_ms is not None:
            return max(asked_ms, now_ms)
        base_ms = self.backoff_ms[min(attempt, len(self.backoff_ms) - 1)] if self.backoff_ms else 0
        return now_ms + base_ms + int(self.jitter_ms * chance)
