"""Say how to install a library of an extra that is not there.

Flow: a function that imports such a library, within `needs` -> ImportError -> one line for the user.
"""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Generator[None]:
    """Turn a failed import of a library of an extra into one line that names both.

    Raises:
        ValueError: instead of ImportError.
    """
    try:
        yield
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        raise ValueError(f"this needs {library}: pip install 'sa2va[{extra}]'") from error
