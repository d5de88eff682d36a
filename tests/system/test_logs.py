"""What a worker writes, beside a user's own logging, in each kind of process."""

import json

import pytest

POOLS = [["-c", "1"], ["-P", "gevent", "-c", "2"]]

TASKS = """
import logging, logging.config

logging.config.dictConfig({CONFIG})
mine = logging.getLogger("mine")


class Mute:
    def __repr__(self):
        raise SystemExit


@app.task
def speak():
    mine.error("a \\ud800\\nb %d", "no number")
    mine.error("%r", Mute(), extra={"nan": float("nan"), "mute": [Mute()]}, stack_info=True)
    return logging.getLogger().level


@app.task
def fail():
    raise ValueError("a failure \\udcff")
"""


@pytest.mark.parametrize("flags", POOLS, ids=["prefork", "gevent"])
def test_each_record_is_a_line_of_json_and_no_failure_is_silenced(site, flags):
    """2 s: a worker started as by a user, its program and libraries loaded."""
    site.write(TASKS.replace("{CONFIG}", '{"version": 1, "root": {"level": "ERROR"}}'))
    worker = site.worker("--log-format", "json", *flags)

    assert site.send("speak").get(timeout=20) == 40  # the level that the user has set
    with pytest.raises(ValueError, match="a failure"):
        site.send("fail").get(timeout=20)
    assert worker.stop() == 0

    lines = [json.loads(line, parse_constant=pytest.fail) for line in worker.said.splitlines()]
    first, second = [line for line in lines if line["logger"] == "mine"]
    assert first["message"] == "a \\ud800\nb %d no number"
    assert first["task"] == "tasks.speak"
    assert (second["nan"], second["mute"]) == ("nan", ["<Mute; its __str__ raised SystemExit>"])
    assert "in speak" in second["stack_info"]
    (failed,) = [line for line in lines if "a failure" in line["message"]]
    assert (failed["level"], failed["logger"]) == ("error", "streamq.worker")


@pytest.mark.parametrize("flags", POOLS, ids=["prefork", "gevent"])
def test_a_task_that_configures_logging_does_not_silence_failures(site, flags):
    """2 s, as above."""
    site.write(
        """
        @app.task
        def configure_and_fail():
            import logging.config
            logging.config.dictConfig({"version": 1, "root": {"level": "INFO", "handlers": ["h"]},
                "handlers": {"h": {"class": "logging.FileHandler", "filename": "theirs"}}})
            raise ValueError("a failure")
        """,
        name="tasks",
    )
    worker = site.worker(*flags)

    with pytest.raises(ValueError, match="a failure"):
        site.send("configure_and_fail").get(timeout=20)

    assert worker.stop() == 0
    assert "configure_and_fail" in (site.folder / "theirs").read_text()


@pytest.mark.parametrize("flags", POOLS, ids=["prefork", "gevent"])
def test_lines_are_written_whatever_stands_in_the_place_of_standard_error(site, flags):
    """2 s, as above."""
    site.write(
        """
        import contextlib, io, logging

        class Forwarding:
            def write(self, text):
                if text.strip():
                    logging.getLogger("printed").error(text.strip())

            def flush(self): ...

        sys.stderr = Forwarding()

        @app.task
        def collect():
            with contextlib.redirect_stderr(io.StringIO()) as collected:
                print("for the task", file=sys.stderr)
                logging.getLogger("mine").error("for the log")
            print("for both", file=sys.stderr)
            sys.stderr = None
            return collected.getvalue()

        @app.task
        def fail():
            raise ValueError("a failure")
        """
    )
    worker = site.worker("--log-format", "json", *flags)

    assert site.send("collect").get(timeout=20) == "for the task\n"
    with pytest.raises(ValueError, match="a failure"):
        site.send("fail").get(timeout=20)
    assert worker.stop() == 0

    said = [json.loads(line)["message"] for line in worker.said.splitlines()]
    assert [each for each in said if each.startswith("for ")] == ["for the log", "for both"]
    assert any("a failure" in each for each in said)
    assert said[-1] == "stopped"


@pytest.mark.parametrize("flags", POOLS, ids=["prefork", "gevent"])
def test_a_handler_that_raises_costs_no_runner_its_life(site, flags):
    """2 s, as above."""
    site.write(
        """
        import logging

        class Breaking(logging.Handler):
            def emit(self, record):
                raise ConnectionError("no route to the log server")

        logging.getLogger().addHandler(Breaking())

        @app.task
        def fail():
            raise ValueError("a failure")
        """
    )
    worker = site.worker(*flags)
    runners = worker.runners()

    for _ in range(3):
        with pytest.raises(ValueError, match="a failure"):
            site.send("fail").get(timeout=20)

    assert worker.runners() == runners
    assert worker.stop() == 0
    assert worker.said.count("failed: ValueError: a failure") == 3
    assert "no route to the log server" in worker.said
