"""YAML to validated options: every problem at once, with its line, what is allowed, and a hint.

nodes          a config as written, each value with its place
yaml_reader    text -> nodes; refuses what a config does not need
overrides      `--set a.b=c` into the nodes
variables      `${VAR}` and `.env`
secrets        refuses secrets that are written out
wording        what pydantic found, in words
load           all of it together
"""

from __future__ import annotations

from rag_app.config.load import load_config
from rag_app.config.model import AppConfig, IndexOptions, Section

__all__ = ["AppConfig", "IndexOptions", "Section", "load_config"]
