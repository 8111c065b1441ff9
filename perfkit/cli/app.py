"""The `perfkit` command: its table of commands, each imported only when it is called."""

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from perfkit.cli import exits
from perfkit.version import __version__

COMMANDS = (
    ("profile", "Run a training, capture every rank, and say what bounds a step."),
    ("analyze", "Say what bounds a step, from a run folder or from any Kineto traces."),
    ("report", "Write the HTML report of an analysed run."),
    ("compare", "Say what changed between two runs, and whether it is more than noise."),
    ("ceilings", "Measure what this machine can do at most."),
    ("roofline", "Say how near every operator of a run comes to what the machine can do."),
    ("whatif", "Predict what a change would bring, before making it, from a captured run."),
    ("recipes", "List the fixes that perfkit knows, and which of them fit a run."),
    ("scale", "Say how a training scales over ranks, and where the efficiency goes."),
    ("faults", "Kill a rank, and say whether and how fast the training resumes."),
    ("writeup", "Write a course lab's report from runs, and measure what it lacks."),
    ("optimize", "Try recipes on a training, measure each, keep what is faster for certain."),
    ("capture", "Trace some steps of a training that is already running."),
    ("dump", "Write every rank's Python stacks, last step and last collective, and show them."),
    ("export", "Write a run for Perfetto, or as tables, with the clocks of all ranks aligned."),
    ("schema", "Print the JSON Schema of analysis.json."),
    ("doctor", "Check what this machine lets perfkit see, and how to see more."),
)
"""Name and one line of help; the command is `command` in the module of that name."""

WELCOME = f"""\
perfkit {__version__}: why does a step of a distributed PyTorch training take as long as it does?

  perfkit profile -- torchrun --nproc-per-node=2 train.py   run a training and get a verdict
  perfkit analyze RUN                                       the verdict of a run or of traces again
  perfkit doctor                                            what this machine lets perfkit see

All commands: perfkit --help
"""


class Commands(TyperGroup):
    """The commands of `COMMANDS`: listed without being imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of the table."""
        return [name for name, _ in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """Return what a listing shows of the command."""
        line = dict(COMMANDS).get(cmd_name)
        return None if line is None else TyperCommand(name=cmd_name, help=line)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the command that is about to run."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(str(name)), rest


def load(name: str) -> Any:
    """Import a command's module and build the command."""
    module = importlib.import_module(f"perfkit.cli.{name}")
    app = typer.Typer(add_completion=False)
    settings = SETTINGS | getattr(module, "SETTINGS", {})
    kind = getattr(module, "COMMAND_CLASS", TyperCommand)
    help_text = flowing(module.command.__doc__)
    app.command(name, cls=kind, help=help_text, context_settings=settings)(module.command)
    return typer.main.get_command(app)


def flowing(text: str) -> str:
    """Return a docstring with its paragraphs on one line each, for the terminal to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"perfkit {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Say why a step of a distributed PyTorch training takes as long as it does, and on which rank."""  # noqa: E501
    if ctx.invoked_subcommand is None and not version:
        sys.stdout.write(WELCOME)


def build() -> Any:
    """Return the root command."""
    app = typer.Typer(invoke_without_command=True, context_settings=SETTINGS)
    app.callback(cls=Commands)(_root)
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(exits.run(lambda: build().main(given, "perfkit", standalone_mode=False)))
