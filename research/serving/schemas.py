"""Requests and answers of the server as pydantic models; the served OpenAPI document is made from them."""

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from research.serving.request_limits import Limits

_NO_TEXTS = 'no list "texts", expected {"texts": ["..."]}'


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


Probabilities = dict[str, Annotated[float, Field(ge=0, le=1)]]


class Word(_Schema):
    """A token that is read, and what it adds to the label's logit."""

    word: str
    known: bool
    attribution: float


class Uncertainty(_Schema):
    """Probabilities over dropout masks."""

    samples: int
    mean: Probabilities
    deviation: Probabilities


class Explanation(_Schema):
    """An explanation of one prediction; see `research.serving.explain.Explainer`."""

    label: str
    words: list[Word]
    logit: float
    baseline: float
    gap: float
    nodes: int
    attention: list[list[float]] = []
    uncertainty: Uncertainty | None = None


class ClassifyAnswer(_Schema):
    """Labels and probabilities of the texts, in their order."""

    model: str
    labels: list[str]
    probabilities: list[Probabilities]
    explanations: list[Explanation] = []


class Model(_Schema):
    """A run that answers."""

    id: str
    hash: str
    classes: list[str]
    corpus: str
    max_tokens: int


class Models(_Schema):
    """The runs that answer."""

    models: list[Model]


class Status(_Schema):
    """The state of the server."""

    status: str


class Refusal(_Schema):
    """The reason why a request is not answered, in a sentence."""

    error: str


def classify_request(limits: Limits, names: Collection[str], other_names: Mapping[str, str]) -> type[BaseModel]:
    """Return the pydantic model of a request to classify texts.

    Args:
      limits: the most that a request may hold.
      names: the runs; the first answers a request that names none.
      other_names: more names of runs -> their name among `names`.
    """
    all_names = {name: name for name in names} | dict(other_names)

    def resolve(name: Any) -> str:
        if not isinstance(name, str) or name not in all_names:
            raise _refusal(f"no such model, expected one of {', '.join(all_names)}")
        return all_names[name]

    class ClassifyRequest(_Schema):
        """Texts to classify."""

        explain: bool = Field(
            False, strict=True, description=f"with explanations, of at most {limits.explained_texts} texts"
        )
        model: Annotated[str, BeforeValidator(resolve)] = Field(
            next(iter(names)), json_schema_extra={"enum": list(names)}
        )
        texts: list[Annotated[str, Field(max_length=limits.characters), BeforeValidator(_replace_lone_surrogates)]] = (
            Field(json_schema_extra={"minItems": 1, "maxItems": limits.texts})
        )

        @model_validator(mode="before")
        @classmethod
        def _require_form(cls, asked: Any) -> Any:
            """Refuse other fields and too many texts at once: pydantic would report each of a million as an error."""
            if not isinstance(asked, dict) or not isinstance(asked.get("texts"), list):
                raise _refusal(_NO_TEXTS)
            if unknown := sorted(asked.keys() - cls.model_fields.keys()):
                shown = ", ".join(json.dumps(name[:40]) for name in unknown[:5])
                raise _refusal(f"unknown: {shown}; expected texts, explain and model")
            count, is_explained = len(asked["texts"]), asked.get("explain") is True
            most = limits.explained_texts if is_explained else limits.texts
            if not 1 <= count <= most:
                raise _refusal(f"{count} texts, expected 1 to {most}{' with explanations' if is_explained else ''}")
            return asked

    return ClassifyRequest


def _replace_lone_surrogates(text: Any) -> Any:
    """Return the text with ? in place of lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


def _refusal(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("refusal", "{sentence}", {"sentence": sentence})


def sentence_of(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a request, as a sentence.

    Args:
      error: the first of pydantic's errors of a model made by `classify_request`.
    """
    index, value = error["loc"][-1], error["input"]
    match error["type"]:
        case "missing":  # the body is null
            return _NO_TEXTS
        case "bool_type":
            return '"explain" is neither true nor false'
        case "string_type":
            return f"texts[{index}] is not a string"
        case "string_too_long":
            most = error["ctx"]["max_length"]
            return f"texts[{index}] has {len(value):,} characters, expected at most {most:,}"
    return error["msg"]  # a sentence of our own
