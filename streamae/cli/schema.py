"""The verb `schema`: its options, and one call."""

import click

__all__ = ["schema"]


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    import json

    from streamae.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
