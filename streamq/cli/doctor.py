"""``streamq doctor``: checks whether a Redis is fit for a queue, and gives advice."""

import click

from streamq.admin.doctor.checks import diagnose, worst
from streamq.admin.doctor.facts import Finding
from streamq.admin.doctor.gather import GatherFacts
from streamq.admin.doctor.leaks import LeakScan
from streamq.app import App
from streamq.cli.command import FAILED, Command, GivenOptions
from streamq.cli.shared import app_if_any, as_json, print_json, say


@click.command(cls=Command)
@click.option(
    "--assert-clean", is_flag=True, help="Fail unless nothing waits, runs or is left behind."
)
@as_json
@click.pass_context
def doctor(context: click.Context, assert_clean: bool, as_json: bool) -> None:
    """Check the Redis of the app, and say what to do.

    Exits with 1 if there is a problem; a warning is none.  --assert-clean scans every key of the
    namespace, and exits with 1 unless it is at rest: for tests and deploys.
    """
    given: GivenOptions = context.obj
    app = app_if_any(given)
    if assert_clean:
        context.exit(show_not_at_rest(app, as_json=as_json))
    findings = diagnose(GatherFacts(app.broker.client, app.broker.keys).facts())
    level = worst(findings)
    if as_json:
        print_json({"level": level, "checks": [finding._asdict() for finding in findings]})
    else:
        show(findings)
    context.exit(FAILED if level == "problem" else 0)


def show(findings: list[Finding]) -> None:
    """Print one line for each finding, and its advice below."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        say(f"{finding.level:<8} {finding.check:<{width}}  {finding.says}", lines=True)
        if finding.advice:
            say(f"{'':<8} {'':<{width}}  → {finding.advice}", lines=True)


def show_not_at_rest(app: App, *, as_json: bool) -> int:
    """Print the reasons why the namespace is not at rest.  Returns the exit code."""
    reasons = LeakScan(app.broker.client, app.broker.keys).not_at_rest()
    if as_json:
        print_json({"clean": not reasons, "not_at_rest": reasons})
    elif reasons:
        for line in reasons:
            say(line)
    else:
        say("at rest: nothing waits, nothing runs, every other key lasts or expires")
    return FAILED if reasons else 0
