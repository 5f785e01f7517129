"""The command line: ``vaelib figures | data | runs | report``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from vaelib import __version__, paths

# Each command imports what it needs, so that --help answers at once.


@contextmanager
def _plainly() -> Iterator[None]:
    """Show what a user can mend as one sentence, without a traceback."""
    from vaelib.data import DataError

    try:
        yield
    except (DataError, FileNotFoundError, KeyError, ValueError) as error:
        raise click.ClickException(str(error.args[0] if isinstance(error, KeyError) else error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Check what five papers on variational auto-encoders state."""


@main.command()
@click.option("--profile", default="quick", show_default=True, help="A file of notebooks/profiles.")
@click.option("--only", multiple=True, metavar="NN", help="Notebooks whose name begins so; may be repeated.")
@click.option("--jobs", default=1, show_default=True, help="Notebooks at a time.")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; may be repeated.")
@click.option("--refresh", is_flag=True, help="Keep the executed notebooks in place of the committed ones.")
def figures(profile: str, only: tuple[str, ...], jobs: int, parameters: tuple[tuple[str, str], ...], refresh: bool):
    """Run notebooks, and write their figures, tables and verdicts to figures/PROFILE."""
    from vaelib import batch, report

    with _plainly():
        settings = batch.settings(profile)
        work = [
            (file, batch.checked(file, {"profile": profile, **given, **dict(parameters)}))
            for file in batch.notebooks(only)
            for given in settings.get(file.stem, [{}])
        ]
        if refresh and (parameters or profile != "quick"):
            raise ValueError("refresh: notebooks are kept with their default parameters; leave out -p and --profile")
    build = paths.project() / "build" / profile
    click.echo(f"running {len(work)} notebooks, profile {profile}; executed copies go to {build}")
    failed = 0
    for outcome in batch.run_all(work, build, jobs):
        state = f"FAILED in {outcome.error}" if outcome.error else "done"
        click.echo(f"  {outcome.output.stem:<28} {outcome.seconds:6.0f} s  {state}")
        failed += outcome.error is not None
        if refresh and not outcome.error and not outcome.parameters:
            batch.keep(outcome.output, paths.project() / "notebooks" / outcome.output.name)
    if any(paths.figures().glob(f"{profile}/*/claims.json")):
        _, page = report.write(profile)
        click.echo(f"figures and verdicts: {page}")
    if failed:
        raise click.ClickException(f"{failed} of {len(work)} notebooks failed; their partial copies are in {build}")


@main.command(name="report")
@click.option("--profile", default="quick", show_default=True)
def report_(profile: str) -> None:
    """Write REPORT.md and REPORT.html of a profile anew, from what its notebooks left."""
    from vaelib import report

    with _plainly():
        for file in report.write(profile):
            click.echo(file)


@main.group()
def data() -> None:
    """List, fetch and verify data sets."""


@data.command(name="list")
def list_data() -> None:
    """All data sets, and whether they are here."""
    from vaelib import data as datasets

    for entry in datasets.available():
        click.echo(f"{'here' if entry.present else '-':<5} {entry.name:<14} {entry.description}; {entry.size}")
    click.echo(f"in {paths.data()} (VAELIB_DATA)")


@data.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download a data set."""
    from vaelib import data as datasets

    with _plainly():
        datasets.fetch(name)
        click.echo(datasets.verify(name))


@data.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check the files of data sets: of those named, or of all that are here."""
    from vaelib import data as datasets

    with _plainly():
        for name in names or [entry.name for entry in datasets.available() if entry.present and ":" not in entry.name]:
            click.echo(datasets.verify(name))


@main.group()
def runs() -> None:
    """Look after the run store."""


@runs.command(name="list")
def list_runs() -> None:
    """All runs, oldest first."""
    from vaelib.store import Store

    table = Store().table()
    click.echo(table.dropna(axis=1, how="all").to_string(index=False) if len(table) else "no runs")
    click.echo(f"in {Store().folder} (VAELIB_RUNS)")


@runs.command()
@click.argument("key")
def show(key: str) -> None:
    """One run whole: experiment, provenance, metrics, history. KEY may be shortened."""
    from vaelib.store import Store

    with _plainly():
        entry = Store().find(key)
        for name in ("experiment", "provenance", "metrics"):
            click.echo(f"{name}: {json.dumps(getattr(entry, name), indent=2)}")
        click.echo(entry.history.to_string(index=False))


@runs.command(name="export")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("keys", nargs=-1)
def export_(archive: Path, keys: tuple[str, ...]) -> None:
    """Write runs (all, or those with KEYS) to one ARCHIVE, a .tar.gz."""
    from vaelib.store import Store

    with _plainly():
        click.echo(f"{Store().export(archive, list(keys) or None)} runs in {archive}")


@runs.command(name="import")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
def import_(archive: Path) -> None:
    """Take the runs of an ARCHIVE into the store."""
    from vaelib.store import Store

    with _plainly():
        added, known = Store().import_(archive)
        click.echo(f"{added} runs added, {known} were here already")


@runs.command()
def prune() -> None:
    """Remove runs of older code, checkpoints, and what killed runs left; not while anything is running."""
    from vaelib.store import Store

    click.echo(f"{Store().prune()} runs, checkpoints and leftovers removed")
