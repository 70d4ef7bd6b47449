"""The widths of a Hopfield layer: those given, those that follow, and those that contradict each other."""

from dataclasses import dataclass

from zoo.layers.hopfield.options import positive_int


@dataclass(frozen=True)
class Sizes:
    """Widths of a Hopfield layer; None where any width will do.

    Attributes:
        state, stored, value: of the inputs.
        head: in which states and stored patterns are compared, D.
        read: of what a head reads out, P.
        out: of the output.
    """

    state: int | None
    stored: int | None
    value: int | None
    head: int | None
    read: int | None
    out: int | None


def resolve_sizes(
    *,
    dim: int | None,
    num_heads: int,
    head_dim: int | None,
    value_dim: int | None,
    out_dim: int | None,
    stored_dim: int | None,
    value_in_dim: int | None,
    project_state: bool,
    project_stored: bool,
    project_value: bool,
    project_out: bool,
    connect_values: bool,
) -> Sizes:
    """All widths from those given; see `Hopfield` for what they are.

    Raises:
        ValueError, TypeError: a width that is missing, no integer of at least 1, or that contradicts another.
    """
    given = {
        "num_heads": num_heads,
        "dim": dim,
        "head_dim": head_dim,
        "value_dim": value_dim,
        "out_dim": out_dim,
        "stored_dim": stored_dim,
        "value_in_dim": value_in_dim,
    }
    for name, value in given.items():
        if value is not None:
            positive_int(name, value)
    projects = project_state or project_stored or project_value
    if dim is None and (projects or project_out):
        raise ValueError(
            "dim must be given unless nothing is projected: project_stored, project_state, project_value and "
            "project_out all False"
        )
    if head_dim is None and dim is not None:
        head_dim = _default_head(dim, num_heads) if projects else dim
    read = head_dim if value_dim is None else value_dim
    if connect_values and read != head_dim:
        raise ValueError(f"connect_values needs value_dim = head_dim, got {read} and {head_dim}")
    stored = _input("stored_dim", stored_dim, dim, None if project_stored else ("head_dim", head_dim))
    through_stored = connect_values and project_stored
    if through_stored:
        value = stored if value_in_dim is None else value_in_dim
        if value != stored:
            raise ValueError(
                f"connect_values sends values through the projection of the stored patterns, which are {stored} wide, "
                f"got value_in_dim {value_in_dim}"
            )
    else:
        value = _input("value_in_dim", value_in_dim, dim, None if project_value else ("value_dim", read))
    state = dim if project_state else head_dim
    heads = None if read is None else num_heads * read
    if not project_out and out_dim not in (None, heads):
        raise ValueError(f"without an output projection the output is num_heads * value_dim = {heads}, got {out_dim}")
    return Sizes(state, stored, value, head_dim, read, (out_dim or dim) if project_out else heads)


def _default_head(dim: int, num_heads: int) -> int:
    if dim % num_heads:
        raise ValueError(f"num_heads must divide dim unless head_dim is given, got dim {dim} and num_heads {num_heads}")
    return dim // num_heads


def _input(name: str, given: int | None, dim: int | None, fixed: tuple[str, int | None] | None) -> int | None:
    """Width of an input; one that is not projected must have that of what it is used as."""
    if fixed is None:
        return dim if given is None else given
    needed, width = fixed
    if given is not None and width is not None and given != width:
        raise ValueError(f"{name} of an input that is not projected must be {needed} = {width}, got {given}")
    return given if width is None else width
