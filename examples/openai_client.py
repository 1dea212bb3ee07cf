"""Talk to a running Octavo server with the official OpenAI client: a chat, a conversation kept by the server, JSON.

Usage: openai_client.py [--url http://127.0.0.1:8000] [--document NAME] [QUESTION]

Start a server first: `octavo serve octavo-s`. With --document the question is about a document that the server has
read, and the places that the answer came from are printed. Needs `pip install openai`; a key comes from OCTAVO_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from openai import OpenAI

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"short": {"type": "boolean"}},
    "required": ["short"],
    "additionalProperties": False,
}


def chat(client: OpenAI, model: str, question: str, document: str | None) -> None:
    """Print an answer while it arrives, then its sources and what it took."""
    extra = {} if document is None else {"document": document}
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=100,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=extra,
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
            for source in getattr(choice, "sources", None) or []:
                print(f"\n  from {source['file']}, characters {source['start']} to {source['end']}")
        if chunk.usage is not None:
            print(f"\n  {chunk.usage.prompt_tokens} tokens read, {chunk.usage.completion_tokens} made")


def conversation(client: OpenAI, model: str, question: str) -> None:
    """Ask, then ask about the answer: the server keeps what was said."""
    first = client.responses.create(model=model, input=question, max_output_tokens=100)
    print(first.output_text)
    second = client.responses.create(
        model=model, input="Say it in fewer words.", previous_response_id=first.id, max_output_tokens=100
    )
    print(second.output_text)
    client.responses.delete(first.id)


def structured(client: OpenAI, model: str, question: str) -> dict[str, Any]:
    """An answer that is JSON of a given schema, whatever the model would rather say; empty where it was cut off."""
    response = client.responses.create(
        model=model,
        input=question,
        max_output_tokens=200,
        text={"format": {"type": "json_schema", "name": "length", "schema": SCHEMA}},
    )
    return json.loads(response.output_text) if response.status == "completed" else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all three; 0 when the server answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="What is an octavo?")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server listens")
    parser.add_argument("--document", help="a document that the server has read")
    given = parser.parse_args(arguments)
    with OpenAI(base_url=f"{given.url}/v1", api_key=os.environ.get("OCTAVO_API_KEY", "none")) as client:
        model = client.models.list().data[0].id
        print(f"-- chat with {model}")
        chat(client, model, given.question, given.document)
        print("-- a conversation kept by the server")
        conversation(client, model, given.question)
        print("-- JSON of a schema")
        print(structured(client, model, f"Is this question short: {given.question}"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
