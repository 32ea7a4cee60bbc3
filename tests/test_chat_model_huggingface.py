"""The local chat model, on a model of a few random weights made here."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

import rag_app
from rag_app import registry
from rag_app.chat_models import huggingface
from rag_app.chat_models._huggingface import HuggingFaceChatModel, LocalModel
from rag_app.errors import ModelError

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
WORDS = ["[UNK]", "<s>", "</s>", "system", "user", "assistant", ":", "hello", "there"]
WORDS += ["one", "two", "three", "four", "five", "six", "seven"]
WINDOW = 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers with a word list and a chat template of its own."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("model") / "tiny"
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="[UNK]"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(place)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=WINDOW,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.6,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    return place


def make(folder: Path, **options: Any) -> Any:
    given = {"model": str(folder), "max_tokens": 12, "temperature": 0, "device": "cpu", **options}
    return registry.build("chat_models", "huggingface", huggingface.Config(**given))


class _Local:
    @pytest.fixture(autouse=True)
    def _make(self, folder: Path) -> None:
        type(self).place = folder

    place: Path

    @pytest.fixture
    def model(self) -> BaseChatModel:
        made: BaseChatModel = make(self.place)
        return made

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return HuggingFaceChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"local": LocalModel(huggingface.Config(model=str(self.place), max_tokens=12))}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {}

    has_tool_calling = has_tool_choice = has_structured_output = supports_json_mode = False


class TestLocalUnit(_Local, ChatModelUnitTests):
    pass


class TestLocalIntegration(_Local, ChatModelIntegrationTests):
    pass


def reference(folder: Path, text: str, count: int) -> tuple[int, str]:
    """Tokens read, and the greedy reply, by transformers itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    made = model.generate(**inputs, max_new_tokens=count, do_sample=False, pad_token_id=2)
    read = inputs["input_ids"].shape[1]
    return read, tokenizer.decode(made[0, read:], skip_special_tokens=True)


def test_it_writes_what_transformers_writes(folder: Path) -> None:
    prompt = "<s>system : one user : hello there assistant :"
    read, expected = reference(folder, prompt.replace("<s>", "<s> "), 12)
    reply = make(folder).invoke([SystemMessage("one"), HumanMessage("hello there")])
    assert expected.split()
    assert reply.text.split() == expected.split()
    assert reply.usage_metadata["input_tokens"] == read
    assert reply.response_metadata["model_name"] == str(folder)


def test_a_stream_comes_in_pieces_and_counts(folder: Path) -> None:
    chunks = list(make(folder).stream("hello there"))
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    whole = sum(chunks[1:], start=chunks[0])
    assert whole.text == make(folder).invoke("hello there").text
    assert whole.usage_metadata["output_tokens"] == 12
    assert whole.response_metadata["finish_reason"] == "length"


async def test_it_can_be_awaited(folder: Path) -> None:
    model = make(folder)
    assert (await model.ainvoke("one")).text == model.invoke("one").text
    assert "".join([c.text async for c in model.astream("one")]) == model.invoke("one").text


def test_a_seed_repeats_and_another_varies(folder: Path) -> None:
    def write(seed: int) -> str:
        text: str = make(folder, temperature=2, seed=seed).invoke("one two").text
        return text

    assert write(1) == write(1)
    assert len({write(seed) for seed in range(4)}) > 1


def test_a_stop_word_ends_the_reply_before_it(folder: Path) -> None:
    whole = make(folder).invoke("hello there").text
    word = whole.split()[3]
    stopped = make(folder).invoke("hello there", stop=[word]).text
    assert stopped == whole[: whole.index(word)]


def test_who_stops_reading_stops_the_writing(folder: Path) -> None:
    model = make(folder, max_tokens=200)
    stream = model.stream("one")
    next(stream)
    stream.close()
    assert [t.name for t in threading.enumerate() if "_generate" in t.name] == []
    assert model.invoke("one").text  # the next one is not kept waiting


def test_a_prompt_that_does_not_fit_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=rf"at most {WINDOW} tokens, and the prompt has 605"):
        make(folder).invoke("one " * 600)  # and five of the template


def test_room_that_is_left_bounds_the_reply(folder: Path) -> None:
    reply = make(folder, max_tokens=100).invoke("one " * (WINDOW - 10))
    assert reply.usage_metadata["total_tokens"] <= WINDOW


def test_a_model_without_a_template_is_refused(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no chat template.*trained to chat"):
        make(tmp_path).invoke("one")


def test_what_a_template_refuses_is_told(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="System role not supported"):
        make(tmp_path).invoke([SystemMessage("one"), HumanMessage("two")])


def test_messages_of_tools_are_refused(folder: Path) -> None:
    messages = [HumanMessage("one"), AIMessage("two"), ToolMessage("three", tool_call_id="1")]
    with pytest.raises(ModelError, match="takes no tool messages"):
        make(folder).invoke(messages)


def test_a_missing_model_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model.*Give the folder"):
        make(tmp_path / "empty").invoke("one")


def test_a_missing_device_is_an_error_of_ours(folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded.*the device is there"):
        make(folder, device="cuda:77").invoke("one")


def test_an_error_while_writing_reaches_who_reads(folder: Path) -> None:
    model = make(folder)
    model.invoke("one")
    loaded, _ = model.local._loaded
    loaded.get_input_embeddings().weight.data = loaded.get_input_embeddings().weight.data[:2]
    with pytest.raises(ModelError, match="failed:.*context_chars"):
        list(model.stream("one two three"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_is_the_weights(folder: Path, dtype: str) -> None:
    model = make(folder, dtype=dtype)
    assert model.invoke("one").text
    loaded, _ = model.local._loaded
    assert str(loaded.dtype) == f"torch.{dtype}"


def test_a_folder_is_found_beside_the_config_file(folder: Path) -> None:
    context = {"folder": str(folder.parent)}
    config = huggingface.Config.model_validate({"model": folder.name}, context=context)
    assert config.model == str(folder)


@pytest.mark.parametrize("chain", ["qa", "conversational"])
def test_it_answers_in_a_pipeline(folder: Path, chain: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One\n\nThere are two of seven here.\n")
    config = {
        "sources": [{"kind": "files", "path": str(tmp_path / "a.md")}],
        "vector_store": {"kind": "memory", "path": str(tmp_path / "vectors")},
        "retriever": "bm25",
        # Drawn hot, so that the model of random weights comes to its end token.
        "chat_model": {"kind": "huggingface", "model": str(folder), "temperature": 2, "seed": 5},
        "chain": chain,
        "index": {"path": str(tmp_path / ".rag")},
    }
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    with rag_app.load(config) as app:
        app.ingest()
        answer = app.ask("How many of seven?", chat_history=history)
    assert answer.answer
    assert answer.usage["output_tokens"] >= 1
