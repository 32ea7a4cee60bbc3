"""Which stage lost the evidence of a question, with proof and with what would have kept it.

explaining     walks the stages of a pipeline
documents      was it in the corpus, and did the loader keep it; `raw`, what the file itself says
chunks         the splitter's borders, the embedder's window
ranks          filters, lists, fusion
answer         the reranker, the context budget, and what the answer makes of it
values         what would have kept it, each tried: another value of the config
trials         and another chunk; `places` and `pipeline`, what they look at
"""

from __future__ import annotations

from rag_app.evaluation.why.explaining import explain, explain_all, make_case

__all__ = ["explain", "explain_all", "make_case"]
