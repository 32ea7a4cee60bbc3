"""A model of sentence-transformers, loaded from a folder and checked before it computes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import ModelError
from rag_app.model_errors import first_line
from rag_app.whole_weights import require_all_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_app.embeddings.huggingface import Config
    from rag_app.model_cards import Card

_OURS: Final = {"lasttoken": "last_token"}
_THEIRS: Final = {"last_token": "lasttoken"}
_NO_WINDOW: Final = 1_000_000
"""A tokenizer that knows no limit names an enormous one."""


class TorchModel:
    """The model, ready to compute.

    Attributes:
        window: tokens that are read of a text, special tokens included.
        pooling: which state becomes the vector; empty where the model says no such thing.
        tokenizer: the model's own, that cuts nothing off; safe to share between threads.

    Raises:
        ModelError: it cannot be read, or would compute something else than the model's vectors.
    """

    def __init__(self, folder: Path, config: Config, card: Card) -> None:
        self._folder, self._config, self._card = folder, config, card
        self._sparse_lock = threading.Lock()
        self._head: Any = None
        self._sentences = self._load()
        self.pooling = self._check_pooling()
        self.window = self._set_window()
        self.tokenizer = self._copy_tokenizer()

    def encode(self, texts: list[str], prefix: str) -> NDArray[np.float32]:
        """Vectors of length 1, float32 (n, dimension). Not to be called by two threads at once."""
        try:
            found = self._sentences.encode(
                texts,
                prompt=prefix,  # also when empty: else the folder's default prompt would be used
                batch_size=self._config.batch_size,
                show_progress_bar=False,
                truncate_dim=self._config.dimensions,
            )
        except (RuntimeError, IndexError) as error:
            raise self._fail(f"failed: {first_line(error)}", "Try a smaller batch_size.") from error
        vectors = np.asarray(found, np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not (lengths > 0).all():
            wrong = "gives vectors that are not finite, or zero"
            raise self._fail(wrong, "Choose dtype: float32, or another model.")
        wanted = self._config.dimensions
        if wanted is not None and vectors.shape[1] != wanted:
            wrong = f"has vectors of {vectors.shape[1]} dimensions, not of {wanted}"
            raise self._fail(wrong, "Set embeddings.dimensions lower, or leave it out.")
        scaled: NDArray[np.float32] = vectors / lengths
        return scaled

    def weigh_tokens(self, texts: list[str]) -> list[dict[int, float]]:
        """See `HuggingFaceEmbeddings.sparse`.

        relu(linear(state)) of each token, the largest where a token stands more than once. Source:
        Chen et al. 2024, "BGE M3-Embedding", section 3.2, https://arxiv.org/abs/2402.03216.
        """
        found: list[dict[int, float]] = []
        for start in range(0, len(texts), self._config.batch_size):
            found += self._weigh_batch(texts[start : start + self._config.batch_size])
        return found

    def _weigh_batch(self, texts: list[str]) -> list[dict[int, float]]:
        import torch

        head, special = self._load_head(), set(self._sentences.tokenizer.all_special_ids)
        inputs = self._sentences.preprocess(texts)
        inputs = {n: v.to(head.weight.device) if hasattr(v, "to") else v for n, v in inputs.items()}
        with torch.inference_mode():
            states = self._sentences[0](dict(inputs))["token_embeddings"]
            weights = torch.relu(head(states)).squeeze(-1).float().cpu().numpy()
        ids, seen = inputs["input_ids"].cpu().numpy(), inputs["attention_mask"].cpu().numpy()
        found: list[dict[int, float]] = []
        for row in range(len(texts)):
            held: dict[int, float] = {}
            for token, weight, there in zip(ids[row], weights[row], seen[row], strict=True):
                if there and weight > 0 and int(token) not in special:
                    held[int(token)] = max(held.get(int(token), 0.0), float(weight))
            found.append(held)
        return found

    def _load_head(self) -> Any:
        with self._sparse_lock:
            if self._head is None:
                self._head = self._read_head()
            return self._head

    def _read_head(self) -> Any:
        import torch

        path = self._folder / "sparse_linear.pt"
        if not path.is_file():
            wrong = "weighs no tokens (its folder has no sparse_linear.pt)"
            raise self._fail(wrong, "Choose a model that does, such as BAAI/bge-m3.")
        some = next(self._sentences.parameters())
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            head = torch.nn.Linear(tensors["weight"].shape[1], 1)
            head.load_state_dict(tensors)
        except Exception as error:  # a damaged or foreign file, in torch's many words
            wrong = f"cannot be loaded: sparse_linear.pt: {first_line(error)}"
            raise self._fail(wrong, "Download the model again.") from error
        return head.to(device=some.device, dtype=some.dtype).eval()

    # -- what is checked before ------------------------------------------------------------------

    def _load(self) -> Any:
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        options = {"dtype": self._config.dtype}
        try:
            with require_all_weights(self._fail, unused="pooler"):
                if (self._folder / "modules.json").is_file():
                    made = SentenceTransformer(
                        str(self._folder),
                        device=self._config.device,
                        trust_remote_code=False,
                        local_files_only=True,
                        model_kwargs=options,
                    )
                else:
                    made = self._assemble(options)
        except ModelError:
            raise
        except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
            raise self._explain(error) from error
        made.default_prompt_name = None
        return made.eval()

    def _assemble(self, options: dict[str, Any]) -> Any:
        """A model whose folder does not say how states become a vector: never guessed."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        pooling = self._config.pooling or self._card.pooling
        if pooling is None:
            wrong = "does not say which state becomes the vector (its folder has no modules.json)"
            remedy = "Set embeddings.pooling to cls, mean or last_token, as its model card says."
            raise ModelError("embeddings.pooling", f"{self._config.model!r} {wrong}", remedy)
        transformer = Transformer(str(self._folder), model_kwargs=options)
        width = transformer.get_embedding_dimension()
        modules = [transformer, Pooling(width, pooling_mode=_THEIRS.get(pooling, pooling))]
        return SentenceTransformer(modules=modules, device=self._config.device)

    def _check_pooling(self) -> str:
        """The pooling in force; refused where the card or the user says another."""
        found = [getattr(module, "pooling_mode", None) for module in self._sentences]
        modes = [mode for mode in found if mode]
        mode = modes[0] if modes else ""
        told = _OURS.get(mode, mode) if isinstance(mode, str) else "+".join(mode)
        for place, wanted in (("option", self._config.pooling), ("card", self._card.pooling)):
            if wanted is not None and told != wanted:
                where = "embeddings.pooling" if place == "option" else "embeddings.model"
                who = "the option says" if place == "option" else f"{self._card.name} has"
                wrong = (
                    f"the folder of {self._config.model!r} says pooling {told or 'none'!r}; {who}"
                )
                remedy = "Take the model's own folder, whole; or give a folder of another name."
                raise ModelError(where, f"{wrong} {wanted!r}", remedy)
            if place == "option" and wanted is not None:
                break  # the user knows better than the card
        return told

    def _set_window(self) -> int:
        own, longest = self._sentences.max_seq_length, self._count_positions()
        asked = self._config.max_tokens
        if asked is not None and longest is not None and asked > longest:
            wrong = (
                f"{asked} tokens are more than {self._config.model!r} has places for ({longest})"
            )
            raise ModelError("embeddings.max_tokens", wrong, "Set it lower, or leave it out.")
        known = [n for n in (own, longest, self._card.window) if n is not None and n < _NO_WINDOW]
        if asked is None and not known:
            wrong = f"{self._config.model!r} does not say how many tokens it reads"
            raise ModelError("embeddings.max_tokens", wrong, "Set it, as its model card says.")
        window = asked or min(known)
        self._sentences.max_seq_length = window
        return window

    def _count_positions(self) -> int | None:
        """Places for tokens; None for a model that has no table of them."""
        transformer = getattr(self._sentences[0], "auto_model", None)
        places = getattr(getattr(transformer, "config", None), "max_position_embeddings", None)
        if transformer is None or not isinstance(places, int):
            return None
        for module in transformer.modules():
            first = getattr(module, "padding_idx", None)
            if isinstance(first, int) and hasattr(module, "position_embeddings"):
                return places - first - 1  # as RoBERTa numbers them
        return places

    def _copy_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        backend = getattr(self._sentences.tokenizer, "backend_tokenizer", None)
        if backend is None:
            wrong = "has no tokenizer.json, so its tokens have no places in a text"
            raise self._fail(wrong, "Choose a model that has.")
        copy = Tokenizer.from_str(backend.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

    def _explain(self, error: Exception) -> ModelError:
        if self._card.remote_code or "trust_remote_code" in str(error):
            wrong = "needs Python code of its repository to be run, which rag-app never does"
            return self._fail(wrong, "Choose another model, or serve it and use its server's API.")
        wrong = f"cannot be loaded: {first_line(error)}"
        return self._fail(wrong, "See whether the folder is whole, and torch and device fit.")

    def _fail(self, wrong: str, remedy: str) -> ModelError:
        return ModelError("embeddings.model", f"{self._config.model!r} {wrong}", remedy)
