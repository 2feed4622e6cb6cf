"""What this machine lacks: data, or a package that is no dependency of ours."""


class Unavailable(Exception):
    """One line: what is absent and where it comes from. The run goes on without it."""
