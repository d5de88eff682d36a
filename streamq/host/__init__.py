"""Facts of the operating system and the interpreter: clocks, forks, launch, modules."""
