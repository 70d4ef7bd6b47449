"""The licence identifiers that the Hub takes in a model card; it refuses a card with any other."""

from __future__ import annotations

from zoo.naming import near_names

# https://huggingface.co/docs/hub/repositories-licenses
_LIST = """
apache-2.0 mit openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
_IDENTIFIERS = frozenset(_LIST.split())


def check_licence(identifier: str) -> str:
    """The identifier of a licence, without blanks around it, if the Hub knows it.

    Raises:
        ValueError: it does not; names near ones, and `other`.
        TypeError: not a text.
    """
    if not isinstance(identifier, str):
        raise TypeError(f"license must be a text such as 'apache-2.0', got {identifier!r}")
    wanted = identifier.strip()
    if wanted in _IDENTIFIERS:
        return wanted
    spelled = "-".join(wanted.lower().replace("_", "-").split())
    near = ", ".join(map(repr, near_names(spelled, _IDENTIFIERS)))
    raise ValueError(
        f"the Hub knows no licence {identifier!r}{f'; did you mean {near}?' if near else ';'} For one that is not in "
        f"its list (https://huggingface.co/docs/hub/repositories-licenses) give 'other'"
    )
