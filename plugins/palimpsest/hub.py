"""A small file of a model on the Hugging Face hub, at one commit: from the local cache, or fetched into it."""

from __future__ import annotations

from pathlib import Path

from palimpsest.config import ConfigError


def fetch(repo: str, name: str, commit: str, otherwise: str) -> Path | None:
    """Where the file lies now; None where that commit has no such file.

    Raises `ConfigError` for what must be put right and ConnectionError for what may pass; ``otherwise`` is the other
    way out that the message names.
    """
    from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache

    known = try_to_load_from_cache(repo, name, revision=commit)
    if known is not None:  # a path, or the mark that this commit has no such file
        return Path(known) if isinstance(known, str) else None
    elsewhere = f"; or {otherwise} (model '{repo}' at {commit[:12]})"
    try:
        return Path(hf_hub_download(repo, name, revision=commit))
    except errors.LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"{name} of '{repo}' is not in the local cache and HF_HUB_OFFLINE is set; unset it{elsewhere}"
            ) from error
        raise ConnectionError(f"the hub cannot be reached for {name} of '{repo}': {error}{elsewhere}") from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        raise ConfigError(f"'{repo}' is gated: accept its licence and set HF_TOKEN{elsewhere}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise ConfigError(f"the hub has no '{repo}' at that commit, or not for you{elsewhere}") from error
    except errors.HfHubHTTPError as error:
        raise ConnectionError(f"the hub failed on {name} of '{repo}': {error}{elsewhere}") from error
