"""`python -m FluidFaaS run` and `check`."""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..dag import Dag
from ..errors import FluidFaaSError
from . import assignment, imports, source, timeline
from .lanes import Instance, Process

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 if the function or one of its requests fails."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except FluidFaaSError as error:
        print(f"error: {_at(error.at)}{error.sentence}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Runs the function here and shows its DAG, its times and what it returns."""
    value = source.init_value(options.app, options.main)
    event = source.arguments(options.input)
    dag = _build(value, event)
    plan = [[[node.id for node in dag.nodes]]]
    if options.split is not None:
        every = options.split == "each"
        plan = assignment.every_component(dag) if every else assignment.parse(options.split, dag)
    with tempfile.TemporaryDirectory(prefix="ffs-local-") as folder:
        instance = Instance(Path(folder), value, dag, plan)
        try:
            results = instance.run([event] * options.requests, options.timeout)
            spans = instance.spans()
        finally:
            instance.end()
    for result in results:
        for line in result["logs"]:
            print(line["text"], file=sys.stderr)
    out = sys.stderr if options.json else sys.stdout
    print(_describe(dag), file=out)
    print(_times(spans, results), file=out)
    if options.timeline is not None:
        title = (
            f"{options.app.name}: {'|'.join(';'.join(','.join(lane) for lane in stage) for stage in plan)}"
        )
        picture = timeline.svg(title, spans)
        is_page = options.timeline.suffix in (".html", ".htm")
        options.timeline.write_text(timeline.page(title, picture) if is_page else picture, encoding="utf-8")
        print(f"timeline: {options.timeline}", file=out)
    last = results[-1]
    print(json.dumps(last["body"], ensure_ascii=False, indent=None if options.json else 1))
    failed = last["status"] != 200 or (isinstance(last["body"], dict) and "error" in last["body"])
    return int(failed)


def check(options: argparse.Namespace) -> int:
    """Says what would fail on deployment, each with the author's line where there is one."""
    value = source.init_value(options.app, options.main)
    found: list[tuple[str | None, str]] = []
    if value["binary"] and len(value["code"]) * 3 // 4 > source.LARGEST_ZIP:
        size = len(value["code"]) * 3 // 4 >> 20
        found.append((None, f"the zip has {size} MiB: OpenWhisk takes up to {source.LARGEST_ZIP >> 20}"))
    found += imports.missing(source.python_files(value), _packed(value))
    try:
        if options.input is None:
            _load(value).end()
        else:
            found += _try(value, source.arguments(options.input), options.timeout)
    except FluidFaaSError as error:
        found.append((error.at, error.sentence))
    for at, sentence in found:
        print(f"error: {_at(at)}{sentence}")
    if not found and options.input is None:
        print("ok so far: the code loads; with --input its DAG is built and it is tried split and unsplit")
    elif not found:
        print("ok: it gives the same result split and unsplit")
    return int(bool(found))


def _try(value: dict[str, Any], event: Any, deadline_s: float) -> list[tuple[str | None, str]]:
    """Runs the function in one lane, and with a lane for each component."""
    dag = _build(value, event)
    bodies = []
    for plan in ([[[node.id for node in dag.nodes]]], assignment.every_component(dag)):
        with tempfile.TemporaryDirectory(prefix="ffs-local-") as folder:
            instance = Instance(Path(folder), value, dag, plan)
            try:
                (result,) = instance.run([event], deadline_s)
            finally:
                instance.end()
        bodies.append(result["body"])
        if result["status"] != 200 or (isinstance(result["body"], dict) and "error" in result["body"]):
            how = "unsplit" if len(plan) == 1 else f"in {len(plan)} lanes"
            said = [line["text"] for line in result["logs"] if line["stream"] == "stderr"]
            lines = [line.strip() for line in said if line.startswith('  File "')]
            place = (
                lines[-1].split('"')[1].rsplit("/", 1)[-1] + ":" + lines[-1].split("line ")[1].split(",")[0]
                if lines
                else None
            )
            body = result["body"]
            return [
                (place, f"the example fails {how}: {body.get('error') if isinstance(body, dict) else body}")
            ]
    if bodies[0] != bodies[1]:
        return [(
            None,
            "in lanes of its own for each component it returns something else than unsplit: expected the same; do "
            "components share a global, a file or random numbers?",
        )]  # fmt: skip
    return []


def _load(value: dict[str, Any]) -> Process:
    process = Process(value)
    try:
        process.initialized()
    except BaseException:
        process.end()
        raise
    return process


def _build(value: dict[str, Any], event: Any) -> Dag:
    process = _load(value)
    try:
        return process.build(event)
    finally:
        process.end()


def _packed(value: dict[str, Any]) -> set[str]:
    """The modules in the action's `virtualenv/`."""
    if not value["binary"]:
        return set()
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(value["code"]))) as archive:
        parts = [name.split("/") for name in archive.namelist() if "/site-packages/" in name]
    return {part[part.index("site-packages") + 1].removesuffix(".py") for part in parts}


def _describe(dag: Dag) -> str:
    """One line for each input, component and output."""

    def shape(item: Any) -> str:
        return f"{item.dtype}{list(item.shape)}".replace("'", "")

    lines = [f"  input {name}: {shape(item)}" for name, item in dag.inputs.items()]
    for node in dag.nodes:
        reads = ", ".join(str(item) for item in node.sources) or "nothing"
        lines.append(f"  {node.id} ({reads}) -> {', '.join(shape(item) for item in node.outputs)}")
    lines += [f"  output {name}: {port}" for name, port in dag.outputs.items()]
    return "\n".join(["DAG", *lines])


def _times(spans: list[timeline.Span], results: list[dict[str, Any]]) -> str:
    """A table of medians, and those of whole requests."""
    by_component: dict[tuple[str, str], list[float]] = {}
    for lane, component, begin, end in spans:
        by_component.setdefault((lane, component), []).append((end - begin) * 1000)
    width = max([len(component) for _, component in by_component] + [9])
    lines = [f"  {'lane':6} {'component':{width}} {'median':>11} {'longest':>11}"]
    for (lane, component), times in by_component.items():
        lines.append(
            f"  {lane:6} {component:{width}} {statistics.median(times):8.3f} ms {max(times):8.3f} ms"
        )
    transfer = [result["timing"]["transfer_ms"] for result in results if result["timing"]]
    whole = statistics.median(result["took_ms"] for result in results)
    moved = f", {statistics.median(transfer):.3f} ms of it between lanes" if transfer else ""
    return "\n".join(["times", *lines, f"  a request: {whole:.3f} ms (median of {len(results)}){moved}"])


def _at(at: str | None) -> str:
    return f"{at}: " if at else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m FluidFaaS", description="Functions on this machine.")
    commands = parser.add_subparsers(required=True)
    for command in (run, check):
        own = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        own.set_defaults(command=command)
        own.add_argument(
            "app", type=Path, help="the action: a Python file, a zip, or a folder with __main__.py"
        )
        own.add_argument("--main", default="main", help="the function in it (default: main)")
        own.add_argument(
            "--timeout", type=float, default=600.0, metavar="SECONDS", help="for one request (default: 600)"
        )
        needed = command is run
        own.add_argument(
            "--input", required=needed, metavar="JSON", help="the arguments, or a file with them"
        )
        if command is run:
            own.add_argument(
                "--split",
                metavar="PLAN",
                help="'each', or stages as in 'm1;m2|m3,m4' (default: all in one process)",
            )
            own.add_argument(
                "--requests", type=_count, default=1, metavar="N", help="how many times (default: 1)"
            )
            own.add_argument("--timeline", type=Path, metavar="FILE", help="writes a picture: .svg or .html")
            own.add_argument("--json", action="store_true", help="only the result on standard output")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not valid: expected at least 1")
    return number
