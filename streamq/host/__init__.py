"""What the operating system and the interpreter say: clocks, forks, how we were launched."""
