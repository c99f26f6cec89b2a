"""Google Cloud Storage on this machine, in memory: an emulator, and what TensorStore asks of it that it lacks.

That is the generation of an object that is read, and writing where the object is still of a given generation, or not
there: https://cloud.google.com/storage/docs/request-preconditions. One bucket is not ours: forbidden.
"""

import contextlib
import logging
import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


@contextlib.contextmanager
def emulated(bucket: str) -> Iterator[dict[str, str]]:
    """A bucket; gives the environment in which it is found, for other processes."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # it tells of all that is not there
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",  # of gcsfs and google-cloud-storage
        "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{port}",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it asks Google itself of what kind a bucket is
        "NO_GCE_CHECK": "true",  # nobody asks the network whether this is a machine of Google's
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "HANDLERS", [*ROUTES, *server.HANDLERS])
        for name, value in environment.items():
            patch.setenv(name, value)
        with server.create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket):
            yield environment


def get(request, response, storage):
    objects.get(request, response, storage)
    if response.status < HTTPStatus.BAD_REQUEST:
        response["x-goog-generation"] = generation(storage, request.params["bucket_name"], request.params["object_id"])


def insert(request, response, storage):
    """Requests come one after the other: nothing is written between this look and the writing."""
    wanted = request.query.get("ifGenerationMatch")
    if wanted and wanted != [generation(storage, request.params["bucket_name"], request.query["name"][0])]:
        assert request.data is not None  # is read, so that the connection ends well
        response.status = HTTPStatus.PRECONDITION_FAILED
    else:
        objects.insert(request, response, storage)


def generation(storage, bucket: str, name: str) -> str:
    """0 is that of what is not there."""
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"


def refuse(request, response, storage):
    response.status = HTTPStatus.FORBIDDEN


ROUTES = [
    (r"^/storage/v1/b/forbidden$", {"GET": refuse}),
    (r"^/storage/v1/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>[^/]+)$", {"GET": get, "DELETE": objects.delete}),
    (r"^/upload/storage/v1/b/(?P<bucket_name>[-.\w]+)/o$", {"POST": insert, "PUT": objects.upload_partial}),
]
