"""What is closed at the end of a with statement."""

from abc import ABC, abstractmethod
from typing import Self


class ClosedAtTheEnd(ABC):
    """A context manager whose end is `close`."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
