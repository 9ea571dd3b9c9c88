"""Servers of object storage for tests: S3, Azure and Google, each with the variables that its clients read.

S3 is moto and Azure is Azurite. None of Google's emulators in the package registries takes uploads by the XML interface
that obstore speaks (fake-gcs-server 1.54 refuses them, gcp-storage-emulator has no such route), so Google is moto's S3,
whose requests and answers are alike, behind Google's own condition: the generation of an object.
"""

import json
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pyarrow.fs as pafs
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests import services

ACCOUNT, KEY = (
    "devstoreaccount1",
    ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="),
)
"""Of every Azurite; public."""


@dataclass(frozen=True)
class Store:
    """A server that runs."""

    scheme: str
    variables: Mapping[str, str]
    """Of the environment of its clients."""
    create: Callable[[str], None]
    """Makes a bucket."""

    def bucket(self, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """URI of a new bucket, with access to the server in this process and those that it starts."""
        for variable, value in self.variables.items():
            monkeypatch.setenv(variable, value)
        self.create(name)
        return f"{self.scheme}://{name}"


@contextmanager
def s3() -> Iterator[Store]:
    """S3 by moto."""
    with services.s3() as address:
        variables = services.s3_environment(f"http://{address}")
        client = boto3.client(
            "s3", endpoint_url=f"http://{address}", aws_access_key_id="testing", aws_secret_access_key="testing",
            region_name="us-east-1",
        )  # fmt: skip
        yield Store("s3", variables, lambda name: client.create_bucket(Bucket=name))


@contextmanager
def azure() -> Iterator[Store]:
    """Azure by Azurite."""
    program = shutil.which("azurite-blob")
    if program is None:
        services.absent("Azurite (npm install --global azurite)")
    port = services.free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
        server = subprocess.Popen(
            [*command, "--skipApiVersionCheck", "--disableTelemetry"], cwd=folder, stdout=subprocess.DEVNULL
        )
        try:
            services.wait_for_port("127.0.0.1", port, server)
            variables = {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
            }
            host = f"127.0.0.1:{port}"
            system = pafs.AzureFileSystem(
                ACCOUNT, account_key=KEY, blob_storage_authority=host, dfs_storage_authority=host,
                blob_storage_scheme="http", dfs_storage_scheme="http",
            )  # fmt: skip
            yield Store("az", variables, system.create_dir)
        finally:
            server.terminate()
            server.wait(timeout=30)


@contextmanager
def google() -> Iterator[Store]:
    """Google by moto's S3 behind generations."""
    application = _Generations(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "account.json"
            file.write_text(json.dumps(account))
            variables = {"GOOGLE_SERVICE_ACCOUNT": str(file), "GOOGLE_BASE_URL": url}
            yield Store("gs", variables, lambda name: _put(f"{url}/{name}"))
    finally:
        server.shutdown()
        thread.join(timeout=30)
        server.server_close()


STORES = {"s3": s3, "az": azure, "gs": google}


_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none"
)
"""In place of Google's, which the S3 server takes for nobody's."""


def _put(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()


class _Generations:
    """WSGI application before an S3 server: numbers the writes of every object and refuses those whose condition fails.

    https://cloud.google.com/storage/docs/xml-api/reference-headers#xgoogifgenerationmatch
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._generations: dict[str, int] = {}
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        environ["HTTP_AUTHORIZATION"] = _AUTHORIZATION
        writes = (method == "PUT" and "partNumber" not in query) or (method == "POST" and "uploadId" in query)
        with self._lock:
            condition = environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH")
            if condition is not None and int(condition) != self._generations.get(path, 0):
                start_response("412 Precondition Failed", [("Content-Length", "0")])
                return [b""]
            statuses: list[str] = []

            def respond(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
                statuses.append(status)
                if writes and status.startswith("2"):
                    self._last += 1
                    self._generations[path] = self._last
                if path in self._generations:
                    headers = [*headers, ("x-goog-generation", str(self._generations[path]))]
                return start_response(status, headers, *more)

            body = list(self._application(environ, respond))
            if method == "DELETE" and statuses[0].startswith("2"):
                self._generations.pop(path, None)
            return body
