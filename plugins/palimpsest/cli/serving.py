"""The command that starts, stops and shows model servers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from palimpsest import serve
from palimpsest.config import ConfigError, load_study
from palimpsest.lake import Lake
from palimpsest.serve.folder import ERROR


def register(add) -> None:
    command = add("serve", _serve, "model servers of studies on this machine: start, stop, status, logs")
    command.add_argument("action", choices=["start", "stop", "status", "logs"])
    command.add_argument("study", nargs="?", help="only this study's (needed to start)")
    command.add_argument("--lines", type=_lines, default=40, help="of each log (default: 40)")


def _serve(options) -> None:
    {"start": _start, "stop": _stop, "status": _status, "logs": _logs}[options.action](options)


def _start(options) -> None:
    if not options.study:
        raise ConfigError("name the study whose servers are to be started: python -m palimpsest serve start STUDY")
    study, lake = load_study(options.study), Lake.from_env()
    if not study.servers:
        raise ConfigError(f"{study.path}: the study has no 'servers'")
    for name in study.servers:
        for endpoint in serve.ensure(study, name, lake):
            print(f"{study.name}.{name}: {endpoint.model} answers at {endpoint.url}/v1")


def _stop(options) -> None:
    done = serve.stop(options.study)
    running = sorted({user for one in _of(None) for user in one.users})
    nothing = f"no server of '{options.study}' was running" if options.study else "nothing was running"
    others = f"; running: {', '.join(running)}" if options.study and running else ""
    print("\n".join(done) or nothing + others)


def _status(options) -> None:
    found = _of(options.study)
    for one in found:
        users = ", ".join([*one.users, *one.failed]) or "used by nobody"
        print(f"{users}: {one.state}, {one.model}  [{one.folder}]")
        if one.state in ("starting", "ready", "stopping"):
            for replica in one.replicas:
                device = f"GPU {replica['gpus']}" if replica["gpus"] else "CPU"
                since = time.strftime("%H:%M:%S", time.localtime(replica["since"]))
                print(f"  {replica['url']}  {device}: {replica['state']} since {since}, starts: {replica['starts']}")
        elif one.error:
            print(f"  {_in_a_line(one)}")
    if not found:
        print(_nothing(options.study))


def _logs(options) -> None:
    found = _of(options.study)
    for one in found:
        for file in sorted(Path(one.folder).glob("*.log")):
            print(f"==> {file} <==")
            print("\n".join(file.read_text(errors="replace").splitlines()[-options.lines :]))
    if not found:
        print(_nothing(options.study))


def _lines(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"'{given}' is no number of lines; give 1 or more")
    return int(given)


def _of(study: str | None) -> list[serve.ServerStatus]:
    """The servers the study uses, or could not have started; without one all that run, are in use, or failed so."""
    found = serve.status()
    if study:
        return [one for one in found if any(user.partition(".")[0] == study for user in [*one.users, *one.failed])]
    return [one for one in found if one.users or one.failed or one.state in ("starting", "ready", "stopping")]


def _nothing(study: str | None) -> str:
    if not study:
        return "no server is running"
    others = ", ".join(sorted({user for one in _of(None) for user in one.users}))
    return f"no server of '{study}'; running: {others or 'none'}"


def _in_a_line(one: serve.ServerStatus) -> str:
    """Why it failed: the first error that its log names, else the log's last line, and where the rest stands."""
    why, *told = one.error.splitlines()
    why, _, log = why.partition("; the end of its log, ")
    told = [line.removeprefix("  | ").strip() for line in told]
    cause = next((line for line in told if ERROR.search(line)), told[-1] if told else "")
    return f"{why}{f': {cause}' if cause else ''}; its log: {log.rstrip(':') or one.folder}"
