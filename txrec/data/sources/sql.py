"""SQL sources: connections, columns and numbers of rows of a statement."""

import importlib
import os
import sqlite3
from contextlib import closing
from typing import Any

from txrec.config import SourceConfig
from txrec.errors import DataError


def address_of(source: SourceConfig) -> str:
    """The connection string of a SQL source.

    Raises:
        DataError: the variable that should hold it is not set.
    """
    address = os.environ.get(source.connection_env, "")
    if not address:
        raise DataError(
            f"the environment variable {source.connection_env} is not set; it must hold the connection string, "
            "e.g. postgresql://user@host/db or sqlite:///file"
        )
    return address


def connect(address: str) -> Any:
    """A DB-API connection.

    Raises:
        DataError: the scheme is unknown, or nobody answers.
    """
    scheme = address.partition("://")[0]
    try:
        if scheme == "sqlite":
            return sqlite3.connect(f"file:{address.removeprefix('sqlite:///')}?mode=ro", uri=True)
        if scheme in ("postgresql", "postgres"):
            return importlib.import_module("psycopg").connect(address)
    except ModuleNotFoundError:
        raise DataError("reading PostgreSQL needs the package psycopg: pip install 'txrec[postgres]'") from None
    except Exception as error:
        raise DataError(f"no connection to the {scheme} database: {str(error).strip()}") from error
    raise DataError(f"{scheme}:// is no database that can be read; use postgresql:// or sqlite:///")


def _ask(source: SourceConfig, statement: str) -> tuple[list[str], list[Any]]:
    with closing(connect(address_of(source))) as connection, closing(connection.cursor()) as cursor:
        try:
            cursor.execute(statement)
        except Exception as error:
            raise DataError(f"the database refuses the statement: {str(error).strip()}\n{statement}") from error
        return [column[0] for column in cursor.description], cursor.fetchall()


def columns(source: SourceConfig) -> list[str]:
    """Names of the columns of the source's statement."""
    return _ask(source, f"SELECT * FROM ({source.sql}) AS rows_ LIMIT 0")[0]  # noqa: S608


def num_rows(source: SourceConfig) -> int:
    """Number of rows of the source's statement."""
    return int(_ask(source, f"SELECT count(*) FROM ({source.sql}) AS rows_")[1][0][0])  # noqa: S608
