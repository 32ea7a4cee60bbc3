"""The classes behind `chat_models/huggingface.py`; apart, so that reading a config stays cheap.

transformers is used directly: LangChain's class for its pipelines starts a prompt with two
begin-of-text tokens, loses errors while streaming, counts no tokens and has no async methods.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator  # noqa: TC003  (pydantic reads signatures)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import SkipValidation  # noqa: TC002  (pydantic reads it)

from rag_app.errors import ModelError
from rag_app.hub_models import find_model
from rag_app.model_errors import first_line
from rag_app.whole_weights import require_all_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatResult

    from rag_app.chat_models.huggingface import Config

_ROLES: Final = {"system": "system", "human": "user", "ai": "assistant"}


@dataclass(frozen=True, slots=True)
class Written:
    """How many tokens were read and written, and whether the reply ended by itself."""

    read: int
    written: int
    finished: bool


class LocalModel:
    """A causal language model with its tokenizer, loaded once, when first asked.

    One reply is written at a time; others wait.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def write(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None
    ) -> Iterator[str | Written]:
        """The reply as it is written, and last how long it was.

        Raises:
            ModelError: the model cannot be loaded, has no chat template, fails, or the prompt does
                not fit into it.
        """
        with self._lock:
            model, tokenizer = self._load()
            inputs = self._read_prompt(tokenizer, messages).to(model.device)
            read = inputs["input_ids"].shape[1]
            run = _Run(model, tokenizer, {**inputs, **self._options(model, tokenizer, read)})
            yield from run.stream(self.config.seed, stop)
            if run.error is not None:
                words = f"failed: {first_line(run.error)}"
                remedy = "Try a smaller model, chain.context_chars or max_tokens, or device: cpu."
                raise self._fail(words, remedy) from run.error
            yield Written(read, run.length - read, run.ended)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            folder = find_model(self.config.model, self.config.revision, "chat_model").folder
            try:
                self._loaded = self._open(folder)
            except (OSError, ValueError, RuntimeError, AssertionError, KeyError) as error:
                wrong = f"cannot be loaded: {first_line(error)}"
                remedy = "See whether the folder is whole, and whether the device is there."
                raise self._fail(wrong, remedy) from error
        return self._loaded

    def _open(self, folder: Path) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with require_all_weights(self._fail):
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=self.config.dtype, trust_remote_code=False
            )
        return model.to(self.config.device or _best_device()).eval(), tokenizer

    def _read_prompt(self, tokenizer: Any, messages: Sequence[BaseMessage]) -> Any:
        if tokenizer.chat_template is None:
            raise self._fail("has no chat template", "Choose a model trained to chat.")
        if unknown := {m.type for m in messages} - _ROLES.keys():
            raise self._fail(f"takes no {min(unknown)} messages", "Send it text only.")
        said = [{"role": _ROLES[m.type], "content": str(m.text)} for m in messages]
        try:
            return tokenizer.apply_chat_template(
                said, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        except Exception as error:  # whatever the template, which is a program, raises
            words = f"does not take these messages: {first_line(error)}"
            raise self._fail(words, "Choose a model whose template takes them.") from error

    def _options(self, model: Any, tokenizer: Any, read: int) -> dict[str, Any]:
        window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        room = self.config.max_tokens if window is None else window - read
        if room < 1:
            wrong = f"reads at most {window} tokens, and the prompt has {read}"
            raise self._fail(wrong, "Lower chain.context_chars, or choose another model.")
        options: dict[str, Any] = {"max_new_tokens": min(room, self.config.max_tokens)}
        if model.generation_config.pad_token_id is None:
            options["pad_token_id"] = tokenizer.pad_token_id or tokenizer.eos_token_id
        if (temperature := self.config.temperature) == 0:
            sampling = {"temperature": None, "top_p": None, "top_k": None}
            return {**options, "do_sample": False, **sampling}
        if temperature is not None:
            return {**options, "do_sample": True, "temperature": temperature}
        return options

    def _fail(self, wrong: str, remedy: str) -> ModelError:
        return ModelError("chat_model.huggingface", f"{self.config.model!r} {wrong}", remedy)


class _Run:
    """One reply, written in a thread of its own so that it can be read meanwhile."""

    def __init__(self, model: Any, tokenizer: Any, options: dict[str, Any]) -> None:
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        self._model, self._tokenizer = model, tokenizer
        self._streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._given_up = threading.Event()
        criteria = StoppingCriteriaList([self._is_given_up])
        self._options = {**options, "streamer": self._streamer, "stopping_criteria": criteria}
        self.error: Exception | None = None
        self.length = 0
        self.ended = False

    def stream(self, seed: int | None, stop: Sequence[str] | None) -> Iterator[str]:
        """The text in pieces, up to the first of the `stop` words."""
        thread = threading.Thread(target=self._generate, args=(seed,))
        thread.start()
        try:
            yield from _cut(self._streamer, stop or ())
        finally:
            self._given_up.set()
            thread.join()

    def _generate(self, seed: int | None) -> None:
        import torch

        try:
            with torch.inference_mode(), torch.random.fork_rng(enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                made = self._model.generate(**self._options)
            self.length = made.shape[1]
            read = self._options["input_ids"].shape[1]
            self.ended = self.length - read < self._options["max_new_tokens"]
        except Exception as error:  # told by the thread that reads
            self.error = error
            self._streamer.text_queue.put(self._streamer.stop_signal)

    def _is_given_up(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
        """A stopping criterion: nobody reads on."""
        import torch

        given_up = self._given_up.is_set()
        return torch.full((input_ids.shape[0],), given_up, device=input_ids.device)


class HuggingFaceChatModel(BaseChatModel):
    """A local model as LangChain's chat model; counts tokens, streams, and fails in our words."""

    local: SkipValidation[LocalModel]

    model_config = {"arbitrary_types_allowed": True}

    @property
    def _llm_type(self) -> str:
        return "huggingface-local"

    @property
    def model_name(self) -> str:
        """The model's folder or name."""
        return self.local.config.model

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self.local.config.identity()

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self.local.write(messages, stop):
            if isinstance(piece, str):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
            else:
                yield ChatGenerationChunk(message=self._end(piece))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **options))

    def _end(self, counts: Written) -> AIMessageChunk:
        return AIMessageChunk(
            content="",
            usage_metadata={
                "input_tokens": counts.read,
                "output_tokens": counts.written,
                "total_tokens": counts.read + counts.written,
            },
            response_metadata={
                "model_name": self.model_name,
                "finish_reason": "stop" if counts.finished else "length",
            },
            chunk_position="last",
        )


def _cut(pieces: Iterator[str], stop: Sequence[str]) -> Iterator[str]:
    """The pieces up to the first stop word, which may stand across several."""
    held = max(map(len, stop), default=1) - 1
    text = ""
    for piece in pieces:
        text += piece
        places = [at for word in stop if (at := text.find(word)) >= 0]
        if places:
            text = text[: min(places)]
            break
        sure = len(text) - held
        if sure > 0:
            yield text[:sure]
            text = text[sure:]
    if text:
        yield text


def _best_device() -> str:
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else str(found)
