"""Makes pictures smaller.  They are plain PGM files: P2, width, height, maximum, grey values."""


def shrink(source, target, width):
    """Write the picture ``source``, scaled to a width, to ``target``; return its size."""
    kind, *numbers = source.read_text().split()
    if kind != "P2":
        raise ValueError(f"{source.name} is no PGM picture")
    old_width, old_height, maximum, *pixels = map(int, numbers)
    width = min(width, old_width)
    height = max(1, old_height * width // old_width)
    rows = [
        [
            pixels[(y * old_height // height) * old_width + x * old_width // width]
            for x in range(width)
        ]
        for y in range(height)
    ]
    lines = [f"P2 {width} {height} {maximum}", *(" ".join(map(str, row)) for row in rows)]
    target.write_text("\n".join(lines) + "\n")
    return width, height
