"""The command line. Commands import what they need when they run: `version` and `--help` load nothing else.

Exit: 0 clean, 1 any error; an error is printed once, as `Error: ...`, on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from colonnade import __version__

# Commands that live in other modules: name to module, attribute and help line.
_ELSEWHERE = {
    "dead-letter": ("colonnade.daemon.dead_letter", "dead_letter_command"),
    "demo": ("colonnade.daemon.demo", "demo_command"),
    "map": ("colonnade.daemon.map", "map_command"),
    "query": ("colonnade.daemon.query", "query_command"),
}

F = Callable[..., Any]


class _Group(click.Group):
    """Loads commands of other modules on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            module, attribute = _ELSEWHERE[cmd_name]
            return getattr(import_module(module), attribute)
        if cmd_name == "print-initial-config":
            cmd_name = "print-config"
        return super().get_command(ctx, cmd_name)


def _config_options(command: F) -> F:
    command = click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="Over all files: a.b.c=value or a::b::c=value, the value is YAML. Repeatable.",
    )(command)
    return click.option(
        "--config",
        "uris",
        multiple=True,
        metavar="URI",
        help="File, or file:PATH, env:NAME, yaml:TEXT. Repeatable: later ones are merged over earlier ones.",
    )(command)


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="colonnade", message="%(prog)s version %(version)s")
def cli() -> None:
    """An OpenTelemetry Collector-compatible telemetry daemon whose rows are columns."""


@cli.command()
@_config_options
def run(uris: tuple[str, ...], sets: tuple[str, ...]) -> int:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP reloads the configuration."""
    from colonnade.daemon.run import run as run_daemon

    return run_daemon(uris, sets)


@cli.command()
@_config_options
def validate(uris: tuple[str, ...], sets: tuple[str, ...]) -> int:
    """Check a configuration, build its graph, and say what would be added to it. Starts nothing."""
    from colonnade.daemon.configuration import load
    from colonnade.daemon.graph import check

    configuration = load(uris, sets)
    check(configuration)
    for warning in configuration.warnings:
        click.echo(f"Warning: {warning}", err=True)
    for sentence in configuration.added:
        click.echo(f"Note: {sentence}", err=True)
    return 0


@cli.command("print-config")
@_config_options
@click.option("--mode", type=click.Choice(["redacted", "unredacted"]), default="redacted", show_default=True)
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--validate/--no-validate", "checked", default=True, help="Check it first.")
def print_config(uris: tuple[str, ...], sets: tuple[str, ...], mode: str, form: str, checked: bool) -> int:
    """Print the configuration as the daemon understands it: merged, expanded, with what was added."""
    from colonnade.daemon.configuration.render import render

    click.echo(render(uris, sets, redacted=mode == "redacted", form=form, checked=checked), nl=False)
    return 0


@cli.command()
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def components(form: str) -> int:
    """List the components that are installed."""
    from colonnade.daemon.configuration.render import describe_components

    click.echo(describe_components(form), nl=False)
    return 0


@cli.command()
def schema() -> int:
    """Print the JSON Schema of configuration files, for editors."""
    import json

    from colonnade.daemon.configuration.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    return 0


@cli.command()
def version() -> int:
    """Print the version."""
    click.echo(f"colonnade version {__version__}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `colonnade` and `python -m colonnade`; gives the exit status."""
    try:
        status = cli.main(arguments, prog_name="colonnade", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        _complain(error.format_message() + (f" (see {error.ctx.command_path} --help)" if error.ctx else ""))
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 1
    except BrokenPipeError:
        return 1
    except Exception as error:
        return _failed(error)
    return status if isinstance(status, int) else 0


def _failed(error: Exception) -> int:
    from colonnade.pipeline.errors import ColonnadeError

    if not isinstance(error, ColonnadeError | OSError):
        raise error
    _complain(str(error))
    return 1


def _complain(message: str) -> None:
    print(f"Error: {message}", file=sys.stderr)
