"""``streamq doctor``: whether this Redis is fit for a queue, and what to do if not."""

import click

from streamq.admin.doctor.checks import diagnose, worst
from streamq.admin.doctor.facts import Finding
from streamq.admin.doctor.gather import Checkup
from streamq.admin.doctor.leaks import Leftovers
from streamq.app import App
from streamq.cli.command import FAILED, Command, Given
from streamq.cli.shared import app_if_any, as_json, print_json, say


@click.command(cls=Command)
@click.option(
    "--assert-clean", is_flag=True, help="Fail unless nothing waits, runs or is left behind."
)
@as_json
@click.pass_context
def doctor(context: click.Context, assert_clean: bool, as_json: bool) -> None:
    """Check the Redis of the app, and say what to do.

    Ends with 1 if there is a problem; a warning is none.  With --assert-clean, which looks
    at every key of the namespace, with 1 unless it is at rest: for tests and deploys.
    """
    given: Given = context.obj
    app = app_if_any(given)
    if assert_clean:
        context.exit(show_unrest(app, as_json=as_json))
    findings = diagnose(Checkup(app.store.client, app.store.keys).facts())
    level = worst(findings)
    if as_json:
        print_json({"level": level, "checks": [finding._asdict() for finding in findings]})
    else:
        show(findings)
    context.exit(FAILED if level == "problem" else 0)


def show(findings: list[Finding]) -> None:
    """One line a check, and below it what to do."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        say(f"{finding.level:<8} {finding.check:<{width}}  {finding.says}", lines=True)
        if finding.advice:
            say(f"{'':<8} {'':<{width}}  → {finding.advice}", lines=True)


def show_unrest(app: App, *, as_json: bool) -> int:
    """Say what is not at rest; the exit code."""
    unrest = Leftovers(app.store.client, app.store.keys).unrest()
    if as_json:
        print_json({"clean": not unrest, "unrest": unrest})
    elif unrest:
        for line in unrest:
            say(line)
    else:
        say("at rest: nothing waits, nothing runs, every other key lasts or expires")
    return FAILED if unrest else 0
