"""What would be done: the resolved configuration, the number of events, the detector."""


def dry_run(settings):
    """Print it all; returns the exit code 0."""
    for section, rows in settings.resolved().items():
        print(f"[{section}]")
        for key, row in rows.items():
            print(f"  {key} = {row['value']}    # {row['origin']}")
    return 0
