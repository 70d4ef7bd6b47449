"""Public tests: what a module must do to be the kind of module that it says it is."""
