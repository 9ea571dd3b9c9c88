"""A circuit breaker is open for its cooldown after a failure, by a clock that the test moves."""

from serve.concurrency.circuit_breaker import CircuitBreaker


def test_calls_are_refused_for_the_cooldown_after_a_failure_and_no_longer() -> None:
    now_s = [100.0]
    breaker = CircuitBreaker(2.0, lambda: now_s[0])
    states = [breaker.is_open]
    breaker.trip()
    for wait_s in (0.0, 1.9, 0.2):
        now_s[0] += wait_s
        states.append(breaker.is_open)
    assert states == [False, True, True, False]
