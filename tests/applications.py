"""The application that is deployed on the Ray cluster of this test process, kept for the next file that wants the same.

A Ray Serve controller and the replicas of an application take seconds of a processor each to start.
"""

from collections.abc import Callable, Hashable


class _Deployed:
    """At most one application at a time: all of them have the same name."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._url = ""

    def use(self, key: Hashable, start: Callable[[], str]) -> str:
        """URL of the application with this key; another one is stopped before this one starts."""
        if key != self._key:
            self.stop()
            self._key = key  # also where it fails while it starts
            self._url = start()
        return self._url

    def stop(self) -> None:
        """Stops the application that runs, whose replicas reserve processors; Ray Serve's controller stays."""
        from serve import app

        if self._key is not None:
            self._key = None
            app.stop()


deployed = _Deployed()
