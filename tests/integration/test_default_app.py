"""Which app is meant where none is named.  Each in a process of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(server_url, redis, tmp_path):
    """Runs a program; returns what it printed."""

    def run(code):
        path = tmp_path / "shop.py"
        path.write_text(textwrap.dedent(code))
        environment = {"STREAMQ_URL": server_url, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, str(path)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_with_no_app_one_is_made(script):
    assert script(
        """
        import streamq

        @streamq.task
        def add(x, y=0):
            return x + y

        print(add.name, streamq.enqueue(add, 1).state, streamq.enqueue("shop.add", 1).state)
        print(streamq.default_app() is streamq.default_app())
        """
    ) == ["shop.add QUEUED QUEUED", "True"]


def test_the_only_app_is_the_default_one(script):
    assert script(
        """
        import streamq

        app = streamq.App("shop", namespace="other")

        @streamq.task(queue="mail")
        def add(x, y=0):
            return x + y

        print(streamq.default_app() is app, "shop.add" in app.tasks)
        result = streamq.enqueue(add, 1)
        print(result.state, app.result(result.id).state)
        """
    ) == ["True True", "QUEUED QUEUED"]


def test_with_several_apps_one_must_be_chosen(script):
    assert script(
        """
        import streamq

        one, two = streamq.App("one"), streamq.App("two")
        try:
            streamq.enqueue("shop.add")
        except streamq.ConfigError as error:
            print(str(error).replace(chr(10), " | "))

        @two.task
        def add(x):
            return x

        print(streamq.enqueue(add, 1).state, streamq.enqueue(add.s(1)).state)
        streamq.set_default(two)
        print(streamq.default_app() is two, streamq.enqueue("shop.add", 1).state)
        """
    ) == [
        "there are 2 apps; which one is meant? |   apps  one, two |   "
        "→ streamq.set_default(app), or use the app's own methods",
        "QUEUED QUEUED",
        "True QUEUED",
    ]


def test_the_name_of_the_app_never_matters(script):
    assert script(
        """
        import streamq

        app = streamq.App("any name")
        other = streamq.App("another")
        result = app.enqueue("shop.add")
        print(other.result(result.id).state)
        """
    ) == ["QUEUED"]


def test_asyncio_uses_the_default_app_too(script):
    assert script(
        """
        import asyncio
        import streamq

        @streamq.task
        def add(x):
            return x

        async def main():
            print((await streamq.aenqueue(add, 1)).id != (await streamq.aenqueue("shop.add", 1)).id)
            await streamq.default_app().aclose()

        asyncio.run(main())
        """
    ) == ["True"]
