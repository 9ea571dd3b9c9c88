"""Users tables: a user per row with properties, told from logs by its user column, and the properties worth keeping."""

from txrec.data.detection.columns import Column, is_id, mean_length, share
from txrec.data.detection.names import fit, is_personal, is_users_file, plain_name
from txrec.data.detection.table import SURE, Table, remark

_UNIQUE = 0.98
"""Share of distinct values in the user column of a users table."""
_MOST_VALUES = 120
_MOST_PROPERTIES = 12
_SEGMENTS = ("segments", "segment", "groups", "customer_groups", "customer_group", "roles", "audiences", "tags")


def user_column(path: str, columns: dict[str, Column], *, has_header: bool) -> str | None:
    """The column that names the users of a users table; None where the table is none.

    Args:
        path: of the file, whose name may say that it lists users.
        columns: of the table, by name.
        has_header: whether their names tell anything.
    """
    named = is_users_file(path)
    if has_header and any(fit("item_id", name) >= 0.5 or fit("query", name) >= 0.5 for name in columns):
        return None
    by_name = {name: fit("user_id", name) for name in columns} if has_header else {}
    if named:
        by_name |= {name: 0.5 for name in columns if has_header and plain_name(name) in ("id", "key", "number", "no")}
        by_name |= {next(iter(columns)): 0.5} if not has_header else {}
    fitting = [name for name, score in by_name.items() if score >= 0.5 and _names_rows(columns[name])]
    if not fitting or len(columns) < 2:
        return None
    return max(fitting, key=lambda name: by_name[name])


def _names_rows(column: Column) -> bool:
    return (
        is_id(column, whole=False) and column.filled > _UNIQUE and column.distinct > _UNIQUE and len(column.texts) > 1
    )


def _segment_column(columns: dict[str, Column]) -> str | None:
    """The column that lists a user's segments."""
    return next((name for name in columns if plain_name(name) in _SEGMENTS and len(columns[name].texts)), None)


def _properties(columns: dict[str, Column], used: set[str]) -> list[str]:
    """Columns worth keeping as properties: few values, no times, no names or addresses.

    Args:
        columns: of the table, by name.
        used: columns with a meaning of their own.
    """
    kept = [
        name
        for name, column in columns.items()
        if name not in used and not is_personal(name) and 1 < column.texts.n_unique() <= _MOST_VALUES
        and (column.time is None or column.is_number) and mean_length(column.texts.head(500)) < 30
        and (column.distinct < 0.9 or column.is_number or len(column.texts) < 50) and _is_plain(column)
    ]  # fmt: skip
    return kept[:_MOST_PROPERTIES]


def _is_plain(column: Column) -> bool:
    """True where the values are no addresses of mail or pages and no long keys."""
    return share(column.texts.head(500).str.contains(r"@|://|^[0-9a-f]{24,}$")) < 0.2


def declare(table: Table, user: str, *, has_header: bool) -> None:
    """A table of users: the column that names them, their segments, and the properties worth keeping."""
    table.kind = "users"
    if not has_header:
        table.rename({user: "user_id"})
        listed = ", ".join(f"{place} = {name}" for place, name in enumerate(table.profile, 1))
        table.questions.append(f"the file has no header; its columns were named {listed}: name them by their meaning")
        user = "user_id"
    table.take("user_id", user, remark(max(fit("user_id", user), 0.5), table.profile[user]))
    segments = _segment_column(table.profile)
    if segments is not None:
        table.take("segments", segments, remark(SURE, table.profile[segments]))
    kept = _properties(table.profile, set(table.columns.values()))
    if kept:
        table.settings["properties"] = kept
        table.remarks["properties"] = "likely: columns with few values; names and addresses are left out"
