"""The architecture of the package: imports, walls, sizes and names are as the rules say.

The rules are in ``tests/architecture/rules.py``.
"""

import streamq
from tests.architecture.checker import (
    complaints,
    constructors,
    constructors_too_wide,
    doubled_classes,
    fits,
    imports_of,
    libraries,
    our_modules,
    short,
    too_long,
    wrong_packages,
    wrong_root,
)
from tests.architecture.rules import (
    ALLOWED_IMPURE,
    BY_NAME,
    LATE,
    LAYERS,
    MOST_PARAMETERS,
    TOO_MANY_PARAMETERS,
)


def test_imports_point_down_and_walls_hold():
    found = complaints(our_modules(), libraries())

    assert not found, "\n" + "\n".join(found)


def test_files_and_functions_are_no_longer_than_allowed():
    found = too_long(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_constructors_take_few_parameters():
    found = constructors_too_wide(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_class_names_are_unique():
    found = doubled_classes(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_the_root_is_small_and_hides_no_public_name():
    found = wrong_root(our_modules(), streamq.__all__)

    assert not found, "\n" + "\n".join(found)


def test_packages_hold_only_a_docstring():
    found = wrong_packages(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_every_layer_names_modules_that_exist():
    modules = {short(name) for name in our_modules()}
    named = {name for names in LAYERS.values() for name in names.split() if "*" not in name}

    assert named <= modules


def test_every_exception_that_is_granted_is_needed():
    modules = our_modules()
    late = {
        short(module)
        for module, source in modules.items()
        for use in imports_of(source, modules)
        if use.late and not use.target.startswith(("os.", "importlib."))
    }
    by_name = {
        short(module)
        for module, source in modules.items()
        for use in imports_of(source, modules)
        if use.target == "importlib.import_module"
    }

    for who, (_, reason) in LATE.items():
        assert len(reason) > 40, f"LATE does not say why {who} may import late"
        if who != "streamq":  # it imports by name
            assert any(fits(name, who) for name in late), f"{who} imports nothing late any more"
    wide = {name for _, name, count in constructors(modules) if count > MOST_PARAMETERS}
    for name in TOO_MANY_PARAMETERS:
        assert name in wide, f"{name} has few parameters now: remove it from the exceptions"
    for who, target in ALLOWED_IMPURE.items():
        used = {use.target for use in imports_of(modules[f"streamq.{who}"], modules)}
        assert target in used, f"{who} does not import {target} any more"
    for who in BY_NAME.split():
        if who != "cli.*":
            assert who in by_name, f"{who} loads nothing by name any more"


def test_commands_print_by_one_function_that_lets_nothing_reach_the_terminal_raw():
    apart = {"streamq.cli.shared", "streamq.cli.command", "streamq.cli.tables"}
    found = [
        module
        for module, source in our_modules().items()
        if module.startswith("streamq.cli.") and module not in apart and "click.echo" in source
    ]

    assert not found, "say() of cli/shared prints"
