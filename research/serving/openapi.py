"""The description of the server's interface (OpenAPI 3.1), from which its property tests are drawn."""

from collections.abc import Sequence
from typing import Any

_REFUSALS = {
    400: "not JSON, or a Host that is not this server's",
    408: "not whole in time",
    413: "too many bytes",
    415: "not application/json",
    422: "not what is described here, or beyond a limit",
    429: "too much is waiting; ask again in a second",
    503: "not ready yet",
    504: "no answer in time",
}


def describe(limits: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """The description, with the limits of `http.Limits` and the names of the runs."""
    probabilities = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}}
    number, string = {"type": "number"}, {"type": "string"}
    word = _object({"word": string, "known": {"type": "boolean"}, "attribution": number})
    explanation = _object(
        {
            "label": string,
            "words": {"type": "array", "items": word},
            "logit": number,
            "baseline": number,
            "gap": number,
            "nodes": {"type": "integer"},
            "attention": {"type": "array", "items": {"type": "array", "items": number}},
            "uncertainty": _object({"samples": {"type": "integer"}, "mean": probabilities, "deviation": probabilities}),
        },
        optional=("attention", "uncertainty"),
    )
    text = {"type": "string", "maxLength": limits["characters"]}
    request = _object(
        {
            "texts": {"type": "array", "items": text, "minItems": 1, "maxItems": limits["texts"]},
            "explain": {
                "type": "boolean",
                "default": False,
                "description": f"with explanations, of at most {limits['explained_texts']} texts",
            },
            "model": {"type": "string", "enum": list(models), "default": models[0]},
        },
        optional=("explain", "model"),
    )
    answer = _object(
        {
            "model": string,
            "labels": {"type": "array", "items": string},
            "probabilities": {"type": "array", "items": probabilities},
            "explanations": {"type": "array", "items": explanation},
        },
        optional=("explanations",),
    )
    model = _object(
        {
            "id": string,
            "hash": string,
            "classes": {"type": "array", "items": string},
            "corpus": string,
            "max_tokens": {"type": "integer"},
        }
    )
    status, error = _object({"status": string}), _object({"error": string})
    refusals = {str(code): _response(what, error) for code, what in _REFUSALS.items()}
    classify = {
        "summary": "Labels and probabilities of texts, in their order",
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {"200": _response("the answers", answer)} | refusals,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Text classifiers", "version": "1"},
        "paths": {
            "/v1/classify": {"post": classify},
            "/v1/models": {"get": _get("The runs that answer", _object({"models": {"type": "array", "items": model}}))},
            "/healthz": {"get": _get("Whether the server is alive", status)},
            "/readyz": {"get": _get("Whether it is ready to answer", status, {"503": refusals["503"]})},
        },
    }


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _response(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _get(summary: str, schema: dict[str, Any], others: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _response("the answer", schema)} | (others or {})}
