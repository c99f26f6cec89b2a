"""Google Cloud Storage, before anything relies on it."""

from gcsfs.retry import is_retriable  # of gcsfs, by which epath reads and writes
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.cloud import storage

from captioner_jax.errors import OutageError, UserError


def is_outage(error: Exception) -> bool:
    """Has gcsfs or TensorStore tried again and again, for what is as a rule there a while later?"""
    return is_retriable(error) or "retry attempts failed" in str(error)


def check(name: str) -> None:
    """Raises UserError where there is no such bucket, or none for us, and OutageError where nobody answers."""
    where = f"train.checkpoints: gs://{name}"
    try:
        storage.Client().get_bucket(name, retry=None)  # pyright: ignore[reportArgumentType]
    except (DefaultCredentialsError, RefreshError) as error:
        raise UserError(f"{where}: nobody is logged in: gcloud auth application-default login") from error
    except exceptions.NotFound as error:
        raise UserError(f"{where}: no such bucket: gcloud storage buckets create gs://{name}") from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise UserError(
            f"{where}: you need roles/storage.objectUser and roles/storage.legacyBucketReader on it"
        ) from error
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    except (exceptions.GoogleAPIError, GoogleAuthError, OSError) as error:
        raise OutageError(f"{where} cannot be reached: {error}") from error
