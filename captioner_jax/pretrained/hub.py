"""Weights from the Hugging Face hub, by way of its library's cache, where a download that was cut short goes on."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, errors, try_to_load_from_cache

from captioner_jax.errors import FORBIDDEN, FULL, AbsentError, OutageError, UserError
from captioner_jax.files import sha256

_REVISION = r"(?P<revision>(refs/(pr|convert)/)?[\w.-]+)"
_ADDRESS = re.compile(rf"hf://(?P<repository>[\w.-]+/[\w.-]+)(@{_REVISION})?(/(?P<file>[^@]+))?", re.ASCII)


class Address(NamedTuple):
    """hf://OWNER/NAME[@REVISION][/FILE]."""

    repository: str
    revision: str | None
    file: str | None


class Fetched(NamedTuple):
    """A file of weights, the folder where its repository's files of that commit lie, and the commit's address of it."""

    file: Path
    folder: Path
    origin: str


def parse(address: str) -> Address:
    """Raises UserError where it is not of the form above."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"{address} is no address on the hub: wanted is hf://OWNER/NAME[@REVISION][/FILE]")
    return Address(**match.groupdict())


def fetch(address: str, weights: Sequence[str], cards: Sequence[str]) -> Fetched:
    """The file that is named, or the first of `weights` that the repository has; and those of `cards` that it has.

    Nothing else is downloaded. The SHA-256 of the weights is compared with the hub's; without a network, what an
    earlier run left in the cache is taken. Raises UserError where they are not to be had, each time for its reason: an
    AbsentError where the repository has none, an OutageError where they may be had later.
    """
    wanted = parse(address)
    hub = HfApi()
    names = [wanted.file] if wanted.file else weights
    try:
        digests = _listed(hub, wanted)
        if digests is None:
            return _in_cache(wanted, names)
        return _downloaded(hub, wanted, digests, names, cards)
    except errors.GatedRepoError as error:
        page = f"https://huggingface.co/{wanted.repository}"
        raise UserError(f"{address} is gated: accept its terms at {page}, then log in by `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{address}: no such repository, or a private one: log in by `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{address}: the repository has no revision {wanted.revision}") from error
    except (errors.HTTPError, OSError) as error:
        kind = UserError if isinstance(error, OSError) and error.errno in FULL + FORBIDDEN else OutageError
        raise kind(f"{address}: {_first_line(error)}. What came so far is kept: try again") from error
    except ValueError as error:  # a name of a repository or a file that the hub does not allow
        raise UserError(f"{address}: {_first_line(error)}") from error


def _listed(hub: HfApi, wanted: Address) -> dict[str, str | None] | None:
    """The repository's files, each with its SHA-256 where the hub tells one; None where it cannot be reached."""
    try:
        told = hub.model_info(wanted.repository, revision=wanted.revision, files_metadata=True)
    except errors.HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return None
    except (errors.HTTPError, errors.OfflineModeIsEnabled):
        return None
    return {file.rfilename: file.lfs.sha256 if file.lfs else None for file in told.siblings or []}


def _downloaded(
    hub: HfApi, wanted: Address, digests: dict[str, str | None], weights: Sequence[str], cards: Sequence[str]
) -> Fetched:
    """Raises AbsentError where the repository has none of the weights, UserError where they are damaged on the way."""
    name = next((name for name in weights if name in digests), None)
    if name is None:
        raise AbsentError(f"hf://{wanted.repository} has no {' and no '.join(weights)}: name a file that it has")
    for card in (card for card in cards if card in digests):
        hub.hf_hub_download(wanted.repository, card, revision=wanted.revision)
    file = Path(hub.hf_hub_download(wanted.repository, name, revision=wanted.revision))
    if digests[name] not in (None, sha256(file)):
        raise UserError(f"{file} is damaged: its SHA-256 is not the hub's. Remove {file.resolve()} and try again")
    return _fetched(wanted, name, file)


def _in_cache(wanted: Address, weights: Sequence[str]) -> Fetched:
    """Raises UserError where there is nothing."""
    for name in weights:
        file = try_to_load_from_cache(wanted.repository, name, revision=wanted.revision)
        if isinstance(file, str):
            return _fetched(wanted, name, Path(file))
    raise OutageError(
        f"hf://{wanted.repository}: the hub cannot be reached, and the cache has no {' and no '.join(weights)} of it"
    )


def _fetched(wanted: Address, name: str, file: Path) -> Fetched:
    """The cache has a folder for each commit, called by its hash."""
    folder = file.parents[name.count("/")]
    return Fetched(file, folder, f"hf://{wanted.repository}@{folder.name}/{name}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or repr(error)
