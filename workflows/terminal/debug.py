"""Whether the user asked for tracebacks, known to all that prints."""

import click

KEY = "slem.debug"


def want_tracebacks(wanted: bool) -> None:
    click.get_current_context().meta[KEY] = wanted


def tracebacks_wanted() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(KEY))
