"""AutoAlign: from a base model to an aligned, evaluated, served one."""

__version__ = "0.1.0"
