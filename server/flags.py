"""How the command line spells a setting."""


def flag(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"
