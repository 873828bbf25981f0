"""Model servers of studies: started, watched, restarted and stopped, so that no orphan ever holds a GPU.

A server whose ``endpoints`` the study does not name is started on this machine, one vLLM per GPU, by a keeper: a
detached process that outlives the task that asked for it, restarts what dies, and ends with everything it started when
it is told to, when nobody uses the server any more, or when it is killed. Studies that ask for the same server share
it; different servers get different GPUs.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace

from palimpsest.config import ConfigError, Server, Study
from palimpsest.lake import Lake
from palimpsest.serve import command, lifecycle, ready
from palimpsest.serve import folder as folders

__all__ = [
    "Endpoint",
    "ServerStatus",
    "api_key",
    "endpoints",
    "ensure",
    "key_hint",
    "key_variable",
    "status",
    "stop",
    "touch",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    url: str
    model: str
    """What requests name."""
    replica: int


@dataclass(frozen=True)
class ServerStatus:
    id: str
    users: list[str]
    """'<study>.<server>' of each study that uses it."""
    state: str
    """starting, ready, failed, stopping, stopped; 'dead': its keeper was killed."""
    error: str
    model: str
    folder: str
    replicas: list[dict]
    """replica, state, url, pid, starts, since (Unix time), error, gpus (as CUDA_VISIBLE_DEVICES) of each."""
    failed: list[str]
    """'<study>.<server>' of each study that could not have it started, until it asks again or stops it."""


def ensure(study: Study, name: str, lake: Lake, *, wait: bool = True, began: float | None = None) -> list[Endpoint]:
    """The server's endpoints, once they are ready; started first if they are not the study's own.

    Without ``wait`` those that are up already: what somebody asks who has used them, and waits for one to come back.
    ConfigError: it cannot be started as written. ConnectionError: it was not ready within ``ready_within_s``, or died
    three times before it was (the message ends with its log's last lines); or, without ``wait``, it was stopped or
    replaced: two versions of a study file must not stop each other's servers in turn. ``began`` is the Unix time since
    which the caller has been at work: servers stopped later than that are not started for it, because whoever stopped
    them ended its run and may not have reached it yet.
    """
    server = _server(study, name)
    if server.endpoints:
        found = endpoints(study, name, lake)
        for endpoint in found if wait else ():
            ready.await_ready(endpoint.url, endpoint.model, api_key(server), key_hint(server), server.ready_within_s)
        return found
    user, spec = _user(study, name), command.specification(server, lake)
    folder = folders.Folder(folders.base() / spec.id)
    if not wait and user not in folder.users():
        raise ConnectionError(
            f"server {user} was stopped, or replaced by one with other settings (the study file or the platform has "
            "changed since); run this again"
        )
    for other in folders.used_by(user):
        if other.id != spec.id:
            log.info("%s: its settings have changed; the server before is stopped", user)
            lifecycle.leave(other, user)
    with folders.deciding():
        if began is not None and folders.stopped_since(study.name, began):
            raise ConnectionError(f"server {user} was stopped after this work began; run it again to have it started")
        folder.use(user)
        if folder.keeper() is None or folder.status()["state"] in ("stopping", "stopped", "failed"):
            gpus = command.gpus_of_replicas(server.gpus, len(spec.replicas), _taken(spec.id))
            lifecycle.begin(folder, replace(spec, replicas=gpus))
    if wait:
        lifecycle.await_ready(folder, user, server.ready_within_s)
    return endpoints(study, name, lake)


def endpoints(study: Study, name: str, lake: Lake) -> list[Endpoint]:
    """Where the server answers now, or will again in a moment (it is being restarted); starts nothing."""
    server = _server(study, name)
    if server.endpoints:
        from palimpsest.generate.models import model_source

        model = model_source(server, lake).served_name
        return [Endpoint(url, model, number) for number, url in enumerate(server.endpoints)]
    return [
        Endpoint(replica["url"], folder.spec().model, replica["replica"])
        for folder in folders.used_by(_user(study, name))
        if folder.keeper()
        for replica in folder.status()["replicas"]
        if replica["state"] in ("ready", "restarting")
    ]


def touch(study: Study, name: str, lake: Lake) -> None:
    """Say that the server is in use: it stops when nobody does for PALIMPSEST_SERVER_IDLE_S seconds."""
    for folder in folders.used_by(_user(study, name)):
        folder.touch(_user(study, name))  # whoever stops it meanwhile must not find it in use again


def stop(study: Study | str | None, name: str | None = None) -> list[str]:
    """Stop what was started for the study (or one of its servers; without a study all); says what was done.

    A study's name will do: stopping must not depend on a file that can be read. A server that another study uses as
    well goes on for that one. TimeoutError: a process could not be ended.
    """
    done = []
    wanted = study if study is None or isinstance(study, str) else study.name
    folders.mark_stopped(wanted)
    for folder in folders.folders():
        for user in [*folder.users(), *folder.failed()]:
            if wanted is None or user == f"{wanted}.{name or user.partition('.')[2]}":
                done += lifecycle.leave(folder, user)
        with folders.deciding():
            if not folder.users():  # also what a killed keeper and its killed watchdog left behind
                done += [f"{folder.id}: killed {process}" for process in lifecycle.end(folder)]
    return done


def status() -> list[ServerStatus]:
    """Every server that was ever started from this state folder."""
    found = []
    for folder in folders.folders():
        alive, now, spec = folder.keeper() is not None, folder.status(), folder.spec()
        state = now.get("state", "starting")
        if not alive and state not in ("failed", "stopped"):
            state = "dead"
        given = [own.get("CUDA_VISIBLE_DEVICES", "") for own in spec.replicas]
        replicas = [replica | {"gpus": given[replica["replica"]]} for replica in now.get("replicas", [])]
        error, users = now.get("error", ""), folder.users()
        failed = folder.failed() if state == "failed" else []
        found.append(ServerStatus(folder.id, users, state, error, spec.model, str(folder.path), replicas, failed))
    return found


def api_key(server: Server) -> str | None:
    """What requests to the server authenticate with; None if its endpoints ask for nothing."""
    if server.endpoints:
        return os.environ.get(key_variable(server)) or os.environ.get("PALIMPSEST_VLLM_API_KEY") or None
    return folders.machine_key()


def key_variable(server: Server) -> str:
    """The environment variable that holds the key of the server's Airflow connection, if it names one."""
    suffix = re.sub(r"\W", "_", server.connection).upper() if server.connection else ""
    return f"PALIMPSEST_VLLM_API_KEY_{suffix}" if suffix else "PALIMPSEST_VLLM_API_KEY"


def key_hint(server: Server) -> str:
    """What to do where the server turns the key down: whose key it is, or where one is to be given."""
    if not server.endpoints:
        return "the key is that of this state folder's servers (servers/api-key): start the server again"
    named = key_variable(server)
    if os.environ.get(named) and server.connection:
        return f"the password of the Airflow connection '{server.connection}' (or {named}) is not accepted: correct it"
    if os.environ.get("PALIMPSEST_VLLM_API_KEY"):
        unused = f", used because {named} is not set (connection '{server.connection}')," if server.connection else ""
        return f"the key in PALIMPSEST_VLLM_API_KEY{unused} is not accepted: correct it"
    if server.connection:
        return (
            f"the server wants an API key: give the Airflow connection '{server.connection}' it as its password; "
            f"outside of Airflow set {named} or PALIMPSEST_VLLM_API_KEY"
        )
    return (
        "the server wants an API key: name an Airflow connection with it under 'connection' of the study's server, or "
        "set PALIMPSEST_VLLM_API_KEY"
    )


def _user(study: Study, name: str) -> str:
    return f"{study.name}.{name}"


def _server(study: Study, name: str) -> Server:
    if name not in study.servers:
        raise ConfigError(f"{study.path}: servers: '{name}' is unknown (defined: {', '.join(study.servers) or 'none'})")
    return study.servers[name]


def _taken(but: str) -> dict[str, str]:
    """GPU → which study's server has it, of all other servers of this state folder."""
    return {
        gpu: f"{', '.join(one.users) or one.id} ({one.state})"
        for one in status()
        if one.id != but and one.state not in ("failed", "stopped", "dead")
        for replica in one.replicas
        for gpu in replica["gpus"].split(",")
        if gpu
    }
