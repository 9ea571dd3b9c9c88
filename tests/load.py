"""Load on a real server: clients in threads that ask without a pause while a block of a test runs."""

import threading
from abc import ABC, abstractmethod
from typing import Self

from txrec.client import ApiError, Client, Retry


class Load(ABC):
    """Requests from several threads without retries; every failure is kept."""

    def __init__(self, url: str, num_threads: int) -> None:
        self.failures: list[ApiError] = []
        self._url = url
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(place,)) for place in range(num_threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, place: int) -> None:
        with Client(self._url, timeout_s=60, retry=Retry(attempts=1)) as client:
            number = 0
            while not self._stopped.is_set():
                try:
                    self.ask(client, place, number)
                except ApiError as error:
                    self.failures.append(error)
                number += 1

    @abstractmethod
    def ask(self, client: Client, place: int, number: int) -> None:
        """One visit: the `number`-th of the thread `place`."""
