"""The command line: ``vaelib check | claims | train | figures | report | crate | data | runs``."""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import click
import yaml

from vaelib import __version__, paths
from vaelib.errors import Invalid, TimeUp, UserError

# Each command imports what it needs, so that --help answers at once.

_PATIENCE = 20  # seconds for a scheduler to answer
_PICTURES = "200M"  # of drawn pictures that are kept for the next time


class _NoAnswer(click.ClickException):
    """What is wrong with a question: 0 to 3 are answers."""

    exit_code = 4


class _Plain(click.Group):
    """Commands that show what a user can mend as one sentence; anything else is a defect, and shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read the output has gone; click ends quietly
            raise
        except (KeyboardInterrupt, TimeUp) as stopped:
            said = str(stopped) or "what was finished is stored"
            click.echo(f"stopped: {said}; the same command goes on from there", err=True)
            ctx.exit(130)
        except (UserError, OSError, yaml.YAMLError) as error:
            sentence = " ".join(str(error).split())
            raise (_NoAnswer if ctx.invoked_subcommand == "check" else click.ClickException)(sentence) from error


@click.group(cls=_Plain, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Check what five papers on variational auto-encoders state."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be told to end is to be interrupted


def _shard(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """From "2/8" to (2, 8)."""
    if value is None:
        return 1, 1
    i, _, n = value.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise Invalid("shard", value, "I/N with 1 <= I <= N, such as 2/8")
    return int(i), int(n)


@main.command()
@click.option("--profile", default="quick", show_default=True, help="A file of notebooks/profiles.")
@click.option("--only", multiple=True, metavar="NN", help="Notebooks whose name begins so; may be repeated.")
@click.option("--jobs", type=click.IntRange(1), help="Notebooks at a time; by default as many as there are cores.")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; may be repeated.")
@click.option("--pdf", is_flag=True, help="Write figures as pdf as well.")
@click.option("--refresh", is_flag=True, help="Keep the executed notebooks in place of the committed ones.")
@click.option("--stored", is_flag=True, help="Train nothing: draw what there are runs for, and say what is left out.")
@click.option("--redraw", is_flag=True, help="Draw figures again from their own csv and json: nothing else is needed.")
def figures(
    profile: str,
    only: tuple[str, ...],
    jobs: int | None,
    parameters: tuple[tuple[str, str], ...],
    pdf: bool,
    refresh: bool,
    stored: bool,
    redraw: bool,
) -> None:
    """Run notebooks, and write their figures, tables and verdicts to figures/PROFILE, or with -p to figures/trial."""
    if pdf:
        os.environ["VAELIB_PDF"] = "1"
    if redraw:
        if refresh or parameters or jobs or stored:
            raise UserError(
                "redraw: figures are drawn from their own tables; leave out -p, --jobs, --stored and --refresh"
            )
        _redraw(profile, only)
        return
    import joblib
    from tqdm import tqdm

    from vaelib import data
    from vaelib.companion import claims, notebooks, plan, processes, report

    if refresh and (parameters or stored or profile != "quick"):
        raise UserError(
            "refresh: notebooks are kept with their default parameters; leave out -p, --stored and --profile"
        )
    work = notebooks.work(profile, only, parameters)
    for name, _ in parameters:
        if stems := notebooks.lacking(work, name):
            click.echo(f"{name} is not a parameter of {', '.join(stems)}")
    place = work[0].parameters["profile"]
    before, copies = report.findings(place), notebooks.copies(place)
    processes.prepare()
    if stored:
        with data.offline():
            work, lacks = plan.stored(work, notebooks.optional(profile))
        for line in lacks:
            click.echo(line)
        if not work:
            raise UserError(f"stored: the store, {paths.runs()}, has no notebook's runs whole")
    else:
        plan.train(work, notebooks.order(profile))
    click.echo(f"running {len(work)} notebooks; figures go to {paths.figures() / place}, executed copies to {copies}")
    failed = 0
    with closing(notebooks.run_all(work, copies, jobs or joblib.cpu_count())) as outcomes:
        for outcome in outcomes:
            state = f"FAILED in {outcome.error}" if outcome.error else "done"
            tqdm.write(f"  {outcome.output.stem:<28} {outcome.seconds:6.0f} s  {state}")
            failed += outcome.error is not None
            if refresh and not outcome.error and outcome.parameters.keys() == {"profile"}:
                notebooks.keep(outcome.output, paths.project() / "notebooks" / outcome.output.name)
    if paths.pictures().is_dir():  # those that were not looked at for longest go
        joblib.Memory(paths.pictures(), verbose=0).reduce_size(bytes_limit=_PICTURES)
    if found := report.records(place):
        click.echo(f"verdicts: {claims.summary([*chain(*found.values())])} {report.write(place)}")
    for claim, finding in report.findings(place).items():
        if finding != before.get(claim, finding):
            click.echo(f"  {claim}: {finding} (was {before[claim]})")
    if failed:
        raise UserError(f"{failed} of {len(work)} notebooks failed; their partial copies are in {copies}")


def _redraw(profile: str, only: tuple[str, ...]) -> None:
    """Draw the figures of a profile again, and say how many there were of each kind."""
    from vaelib.companion import figures

    changed, same = figures.redraw(profile, only)
    for file in changed:
        click.echo(f"  {file.relative_to(paths.figures())}")
    click.echo(
        f"{len(changed) + len(same)} figures drawn; {len(changed)} of them are new or look otherwise than before"
    )


@main.command()
@click.option("--profile", default="quick", show_default=True, help="A file of notebooks/profiles.")
@click.option("--only", multiple=True, metavar="NN", help="Notebooks whose name begins so; may be repeated.")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what there is to do and how long it takes, and do nothing.")
@click.option("--max-hours", type=click.FloatRange(0, min_open=True), help="Stop after so long, and keep what is done.")
@click.option("--shard", callback=_shard, metavar="I/N", help="Only the Ith of N parts of the runs: for array jobs.")
@click.option("--workers", type=click.IntRange(1), help="Runs at a time; by default as many as the cores allow.")
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster that shares the run store's folder.")
@click.option("--device", help="cpu, cuda, cuda:1, ...; by default every accelerator of this machine, or the CPU.")
@click.option("--weights/--no-weights", default=True, show_default=True, help="Whether trained weights are kept.")
@click.option("--nice", is_flag=True, help="Leave the machine to everybody else who wants it.")
def train(
    profile: str,
    only: tuple[str, ...],
    parameters: tuple[tuple[str, str], ...],
    dry_run: bool,
    max_hours: float | None,
    shard: tuple[int, int],
    workers: int | None,
    scheduler: str | None,
    device: str | None,
    weights: bool,
    nice: bool,
) -> None:
    """Train every run that notebooks need and the store does not hold; stopped, it goes on where it was."""
    import joblib

    from vaelib import data
    from vaelib.companion import notebooks, plan

    until = time.time() + 3600 * max_hours if max_hours else float("inf")
    if nice:
        os.nice(19)
    work, order = notebooks.work(profile, only, parameters), notebooks.order(profile)
    if dry_run:
        with data.offline():
            planned = plan.collect(work)
            table = plan.table(planned, workers=workers or joblib.cpu_count())
        click.echo(table.to_string(formatters={"hours": "{:.2f}".format}, float_format="{:,.0f}".format))
    else:
        with _cluster(scheduler):
            planned = plan.train(work, order, shard=shard, until=until, workers=workers, device=device, weights=weights)
    for one in planned:
        if one.waits:
            click.echo(f"{one.name}: more is planned once other runs are there ({one.waits})")
    if failed := [f"{one.name}: {one.fails}" for one in planned if one.fails]:
        raise UserError(f"not everything can be planned; {'; '.join(failed)}")


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Within it, what is trained goes to a Dask cluster, if there is an address."""
    if address is None:
        yield
        return
    import joblib

    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("scheduler: Dask is not installed here; pip install 'vaelib[cluster]' does it") from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what matters of it is raised as well
    try:
        client = Client(address, timeout=_PATIENCE)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise Invalid("scheduler", address, "the address of a Dask scheduler, such as tcp://host:8786") from error
    except OSError as error:
        raise UserError(f"scheduler: no Dask scheduler answers at {address}") from error
    with client, joblib.parallel_config("dask"):
        there = len(client.nthreads())  # type: ignore[no-untyped-call]
        click.echo(f"cluster: {there} workers now, and more may come")
        yield


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, metavar="CLAIM... [--measured NUMBER...]")
@click.option("--paper", help="Only claims of this paper.")
@click.option("--measured", is_flag=True, help="Judge the numbers that stand among the arguments, one a seed.")
@click.option("--run", is_flag=True, help="Train what the claims need at the papers' scale, and draw its notebooks.")
@click.option("--json", "machine", is_flag=True, help="For machines.")
@click.pass_context
def check(
    context: click.Context, arguments: tuple[str, ...], paper: str | None, measured: bool, run: bool, machine: bool
) -> None:
    """Does a claim hold? CLAIM is an id or a pattern, such as 'avae/t3/*'.

    Ends with 0 if it agrees, 1 if it disagrees, 2 if it is undecided, and 3 if it cannot be measured here; of several
    claims a disagreement counts first, then a doubt. What cannot be asked ends with 4.
    """
    from vaelib.companion import check

    numbers = [float(a) for a in arguments if check.is_number(a)] if measured else []
    chosen = check.matching([a for a in arguments if not (measured and check.is_number(a))] or ["*"], paper)
    if measured:
        if len(chosen) != 1 or not numbers:
            raise UserError("measured: give one claim, and after --measured one number or more")
        verdict = check.own(chosen[0], numbers)
        click.echo(json.dumps(verdict.model_dump(mode="json")) if machine else check.told_own(chosen[0], verdict))
        context.exit(check.code(verdict))
    if run:
        check.run(chosen)
    answers = check.answer(chosen)
    if machine:
        click.echo(json.dumps(check.as_json(answers), indent=1, ensure_ascii=False))
    else:
        click.echo("\n\n".join(map(check.told, answers)))
        if len(answers) == 1 and not run:
            click.echo(check.outlook(answers[0]))
    context.exit(check.urgent(one.code for one in answers))


@main.command(name="claims")
@click.argument("words", nargs=-1)
def claims_(words: tuple[str, ...]) -> None:
    """List the claims that all WORDS occur in, or all claims."""
    from vaelib.companion import check

    for claim in check.search(words):
        click.echo(f"{claim.id:<32} {claim.says}: {claim.stated}")


@main.command(name="report")
@click.option("--profile", default="quick", show_default=True)
def report_(profile: str) -> None:
    """Write REPORT.md of a profile, and a report a paper, from what its notebooks left."""
    from vaelib.companion import report

    click.echo(report.write(profile))


@main.command(name="crate")
@click.argument("paper")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
def crate_(paper: str, archive: Path) -> None:
    """Write the claims of a PAPER with all evidence to an ARCHIVE, an RO-Crate (.zip).

    The runs that the store holds go along without weights; the others are named.
    """
    try:
        from vaelib.companion import crate
    except ModuleNotFoundError as error:
        raise UserError(f"crate: {error.name} is not installed here; pip install 'vaelib[crate]' does it") from error

    written, records, runs = crate.write(paper, archive)
    click.echo(f"{written} claims, {records} records and {runs} runs in {archive}")


@main.group()
def data() -> None:
    """List, fetch and verify data sets."""


@data.command(name="list")
def list_data() -> None:
    """All data sets, and whether they are here."""
    from vaelib.data import available

    for entry in available():
        click.echo(f"{'here' if entry.present else '-':<5} {entry.name:<14} {entry.description}; {entry.size}")
    click.echo(f"in {paths.data()} (VAELIB_DATA)")


@data.command(name="fetch")
@click.argument("name")
def fetch_data(name: str) -> None:
    """Download a data set."""
    from vaelib.data import fetch, verify

    fetch(name)
    click.echo(verify(name))


@data.command(name="verify")
@click.argument("names", nargs=-1)
def verify_data(names: tuple[str, ...]) -> None:
    """Check the files of data sets: of those named, or of all that are here."""
    from vaelib.data import available, verify

    for name in names or [entry.name for entry in available() if entry.present and ":" not in entry.name]:
        click.echo(verify(name))


@main.group()
def runs() -> None:
    """Look after the run store."""


@runs.command(name="list")
def list_runs() -> None:
    """All runs, oldest first."""
    from vaelib.runs.store import Store

    table = Store().table()
    click.echo(table.dropna(axis=1, how="all").to_string(index=False) if len(table) else "no runs")
    click.echo(f"in {Store().folder} (VAELIB_RUNS)")


@runs.command(name="show")
@click.argument("key")
def show_run(key: str) -> None:
    """One run whole: experiment, provenance, metrics, history. KEY may be shortened."""
    from vaelib.runs.store import Store

    entry = Store().find(key)
    for name in ("experiment", "provenance", "metrics"):
        click.echo(f"{name}: {json.dumps(getattr(entry, name), indent=2)}")
    click.echo(entry.history.to_string(index=False))


@runs.command(name="export")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("keys", nargs=-1)
@click.option("--weights/--no-weights", default=True, show_default=True, help="Whether trained weights go along.")
def export_runs(archive: Path, keys: tuple[str, ...], weights: bool) -> None:
    """Write runs (all, or those with KEYS) to one ARCHIVE, a .tar.gz."""
    from vaelib.runs.store import Store

    click.echo(f"{Store().export(archive, list(keys) or None, weights=weights)} runs in {archive}")


@runs.command(name="import")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
def import_runs(archive: Path) -> None:
    """Take the runs of an ARCHIVE into the store."""
    from vaelib.runs.store import Store

    added, improved, here = Store().import_(archive)
    click.echo(f"{added} runs added, {improved} improved, {here} were here already")


@runs.command(name="prune")
def prune_runs() -> None:
    """Remove runs of older code, checkpoints, and what killed runs left; not while anything is running."""
    from vaelib.runs.store import Store

    click.echo(f"{Store().prune()} runs, checkpoints and leftovers removed")
