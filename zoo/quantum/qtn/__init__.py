"""Quantum tensor networks that classify sequences: words are states, and boxes merge them along a path or a tree."""

from zoo.quantum.qtn.layer import QTN
from zoo.quantum.qtn.sentences import Sentence, cups, stairs
from zoo.quantum.qtn.tokenizer import KmerTokenizer

__all__ = ["QTN", "KmerTokenizer", "Sentence", "cups", "stairs"]
