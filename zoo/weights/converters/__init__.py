"""One module a family: `convert_official(state) -> (new state, notes)`."""
