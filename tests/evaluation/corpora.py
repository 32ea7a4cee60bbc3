"""Small corpora and configs for evaluations, drawn from a seed: words from a short list, so that
rankings are neither trivial nor alike."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LISTED = (
    "ant bee cat dog eel fox gnu hen ibis jay kiwi lynx mole newt owl pig quail rat seal toad "
    "vole wasp yak zebra sleeps eats runs hides sings waits under over beside the river stone"
)
WORDS = _LISTED.split()


def draw_text(random_: random.Random, sentences: int) -> str:
    """Sentences of 4 to 8 words, two a paragraph."""
    made = [
        " ".join(random_.choices(WORDS, k=random_.randint(4, 8))).capitalize() + "."
        for _ in range(sentences)
    ]
    return "\n\n".join(" ".join(made[at : at + 2]) for at in range(0, len(made), 2))


def write_corpus(folder: Path, count: int, sentences: int = 6, seed: int = 0) -> dict[str, str]:
    """Documents `d00.txt`, … in that folder; texts by name."""
    random_ = random.Random(seed)
    texts = {f"d{number:02}.txt": draw_text(random_, sentences) for number in range(count)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return texts


def draw_cases(texts: Mapping[str, str], count: int, *, whole: bool, seed: int = 0) -> list[Any]:
    """Questions of the words of a document or two, which are the evidence: whole, or sentences."""
    random_ = random.Random(seed)
    cases = []
    for number in range(count):
        evidence: list[dict[str, Any]] = []
        words: list[str] = []
        for source in random_.sample(sorted(texts), random_.randint(1, 2)):
            sentence = random_.choice(texts[source].replace("\n\n", " ").split(". ")).rstrip(".")
            words += random_.sample(sentence.split(), 2)
            evidence.append({"source": source, "relevance": random_.randint(1, 3)})
            if not whole:
                evidence[-1]["quote"] = sentence
        words += random_.choices(WORDS, k=2)
        cases.append({"id": f"q{number}", "question": " ".join(words), "evidence": evidence})
    return cases


def make_config(folder: Path, **sections: Any) -> dict[str, Any]:
    """A config over `docs` of that folder with its index beside it."""
    config = {
        "name": "small",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": "none",
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(folder / "vectors.sqlite")},
        "index": {"path": str(folder / "index")},
        "retriever": {"kind": "dense", "k": 4},
    }
    return {**config, **sections}
