"""The command `trueoracle`: every word of it is a call of `trueoracle.api`."""

import sys

import typer

from trueoracle.cli import show
from trueoracle.cli.commands.analyze import analyze
from trueoracle.cli.commands.criteria import criteria
from trueoracle.cli.commands.diffusion import ratios, sample
from trueoracle.cli.commands.doctor import doctor
from trueoracle.cli.commands.export import export
from trueoracle.cli.commands.networks import oracle, sites
from trueoracle.cli.commands.plan import plan
from trueoracle.cli.commands.report import figures, report
from trueoracle.cli.commands.run import run
from trueoracle.cli.commands.select import select
from trueoracle.cli.commands.serve import serve
from trueoracle.cli.commands.stored import base, status, trials
from trueoracle.cli.commands.studies import studies
from trueoracle.cli.commands.table import score, table
from trueoracle.cli.commands.work import work
from trueoracle.words.errors import TrueOracleError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does the loss of a pruned network before retraining predict how well it does after?",
)

# In the order in which `--help` shows them.
for command in (
    studies,
    run,
    work,
    status,
    trials,
    base,
    sites,
    oracle,
    analyze,
    criteria,
    plan,
    report,
    figures,
    serve,
    select,
    export,
    ratios,
    sample,
    score,
    doctor,
):
    app.command()(command)
app.add_typer(table, name="table")


def main() -> None:
    """Run the command line; a broken rule is one line on standard error and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except TrueOracleError as error:
        show.problem(str(error))
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's errors, of which newer Typers have their own
            raise
        if line := error.format_message():  # without a word all help has been shown
            context = getattr(error, "ctx", None)
            show.problem(line + (f" See `{context.command_path} --help`" if context else ""))
    sys.exit(2)
