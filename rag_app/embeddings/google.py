"""Google's embedding models, through the Gemini API.

Protocol: https://ai.google.dev/api/embeddings#method:-models.batchembedcontents, through the
vendor's own client. Google tells questions from documents by a task type, not by a prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic import ValidationInfo, model_validator

from rag_app.embeddings._remote_options import RemoteEmbeddingOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import GOOGLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.embeddings._remote import RemoteEmbeddings

MAX_TEXTS: Final = 100
MAX_REQUEST_TOKENS: Final = 200_000
"""So that a full request holds 100 texts of the model's window, and none waits for a minute's quota
in vain."""

TaskType: TypeAlias = Literal[
    "RETRIEVAL_DOCUMENT",
    "RETRIEVAL_QUERY",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
]
"""https://ai.google.dev/gemini-api/docs/embeddings#supported-task-types"""

_WITHOUT_KEY: Final = ". Without a key, try embeddings: minilm."


class Config(RemoteEmbeddingOptions):
    """Which model, how long its vectors are, and what they are for."""

    model: str = Field(
        "gemini-embedding-001", min_length=1, description="The model's name at Google."
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Shorter vectors, for models that can shorten them, scaled to length 1 again; "
        "the model's own length when left out.",
    )
    document_task: TaskType = Field(
        "RETRIEVAL_DOCUMENT", description="The task type that is sent with chunks."
    )
    query_task: TaskType = Field(
        "RETRIEVAL_QUERY",
        description="The task type that is sent with questions; QUESTION_ANSWERING, "
        "FACT_VERIFICATION and CODE_RETRIEVAL_QUERY fit RETRIEVAL_DOCUMENT too.",
    )
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of a gateway that speaks Google's protocol; Google's own when left "
        "out.",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable GOOGLE_API_KEY or "
        "GEMINI_API_KEY for Google itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        return GOOGLE.take_key(given, info)


def build(config: Config) -> RemoteEmbeddings:
    """The service as embeddings; nothing is sent yet.

    Raises:
        ModelError: Google itself is meant and there is no key, or the environment names another
            server than the config.
        UsageError: the model is known not to have vectors of that many dimensions.
    """
    from google.genai import Client
    from google.genai.types import Content, EmbedContentConfig, HttpOptions, Part

    from rag_app.embeddings._remote import Limits, Purpose, RemoteEmbeddings, Sent
    from rag_app.model_cards import check_dimension, find_card
    from rag_app.model_errors import Endpoint, show_address
    from rag_app.remote import Caller

    card = find_card(config.model)
    check_dimension(card, config.dimensions)
    address = GOOGLE.find_address("embeddings", config.base_url)
    key = GOOGLE.find_key("embeddings", config.api_key, config.base_url, _WITHOUT_KEY)
    client = Client(
        vertexai=False,  # which an environment variable would decide
        api_key=key.get_secret_value(),
        http_options=HttpOptions(
            base_url=address,
            timeout=int(config.timeout * 1000),
            # Else a server could send texts and key elsewhere.
            client_args={"follow_redirects": False},
        ),
    )
    tasks: dict[Purpose, TaskType] = {"document": config.document_task, "query": config.query_task}

    def send(texts: list[str], purpose: Purpose) -> Sent:
        reply = client.models.embed_content(
            model=config.model,
            # Each text as a content of its own: some models take a list of texts for one content.
            contents=[Content(parts=[Part(text=text)]) for text in texts],
            config=EmbedContentConfig(
                task_type=tasks[purpose], output_dimensionality=config.dimensions
            ),
        )
        found = reply.embeddings or []
        counts = [each.statistics.token_count for each in found if each.statistics]
        counted = [count for count in counts if count is not None]
        tokens = int(sum(counted)) if len(counted) == len(texts) else None
        return Sent(_scale([each.values or [] for each in found]), tokens)

    endpoint = Endpoint(
        "embeddings",
        show_address(address),
        config.model,
        GOOGLE.key_variables[0],
        (key.get_secret_value(),),
        server=GOOGLE.name_server(address),
    )
    limits = Limits(MAX_TEXTS, MAX_REQUEST_TOKENS)
    caller, length = Caller(endpoint, config), config.dimensions
    return RemoteEmbeddings(send, caller, card, config, limits, length, scaled=True)


def _scale(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """The vectors, each of length 1: Google's shortened ones are not.

    https://ai.google.dev/gemini-api/docs/embeddings#quality-for-smaller-dimensions
    """
    import math

    lengths = [math.sqrt(math.fsum(x * x for x in vector)) or 1.0 for vector in vectors]
    return [[x / n for x in vector] for vector, n in zip(vectors, lengths, strict=True)]
