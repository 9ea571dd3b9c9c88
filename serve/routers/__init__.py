"""Routers of the HTTP API, one file per resource.

Path parameters of the type `id`, e.g. `/v1/users/{user_id:id}`, take the rest of the path as it is: ids of shops hold
slashes, dots, spaces and line ends. Starlette's own types `str` and `path` stop at a slash and at a line end.
"""

from starlette.convertors import Convertor, register_url_convertor


class IdConvertor(Convertor[str]):
    """Path parameter that holds any character."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """The id, already percent-decoded by the server."""
        return value

    def to_string(self, value: str) -> str:
        """The id as part of a path."""
        return value


register_url_convertor("id", IdConvertor())
