"""Progress of a long scan, without a callback from the device: the host runs it in pieces."""

from collections.abc import Iterator


def chunks(
    total: int, show: bool, report: bool, every: int | None = None
) -> Iterator[tuple[int, int]]:
    """Splits `total` steps into `(first, length)` pieces, with a progress bar if `show`.

    One piece unless somebody looks on; else pieces of `every` steps, or 20 of them. The bar is
    shown on terminals only and goes to standard error.
    """
    length = (every or -(-total // 20)) if show or report else total
    pieces = [(first, min(length, total - first)) for first in range(0, total, length)]
    if not show:
        yield from pieces
        return
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fit", total=total)
        for first, size in pieces:
            yield first, size
            bar.update(task, completed=first + size)
