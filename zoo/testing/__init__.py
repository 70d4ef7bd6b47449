"""Public tests: what a module must do to be the kind of module that it says it is."""

from zoo.testing.contract import Report, check_module, checks_of

__all__ = ["Report", "check_module", "checks_of"]
